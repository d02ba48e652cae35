"""A soak: constant load while things go wrong at random, and a look every so often at what a client has gathered.

    scripts/soak --minutes 20 --seed 7

Two processes. ``soak.site`` has a development server, its broker and a fault proxy before it, and makes things go
wrong; ``soak`` is the client, whose memory, tasks, files and tables are looked at, and the judge of what its calls came
to.
"""
