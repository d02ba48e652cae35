"""Text that means more than itself somewhere: in a subject, a protocol line, a path, a terminal, a format string."""
# ruff: noqa: RUF001 - it is here to be taken for something else

from __future__ import annotations

__all__ = ["CARRIED_IDS", "CONTEXTS", "LARGE", "REFUSED_IDS", "REFUSED_TEXTS", "TEXTS", "URLS"]

LARGE = "x" * 10_000_000

REFUSED_IDS: dict[str, str] = {
    "empty": "",
    "a dot": "a.b",
    "dots": "...",
    "a wildcard": "*",
    "a wildcard for all": ">",
    "a wildcard within": "a*b",
    "a subject": "grctl_api.workflow.victim",
    "a blank": "a b",
    "a tab": "a\tb",
    "a line": "a\nb",
    "a frame": "a\r\nPUB grctl_api.workflow.victim 0\r\n\r\n",
    "a frame without blanks": "a\r\nPUB\tgrctl_api.workflow.victim\t0\r\n\r\n",
    "NUL": "\0",
    "NUL within": "a\0b",
    "escape": "\x1b[2J",
    "C1 control": "\x9b2J",
    "delete": "\x7f",
    "line separator": "a\u2028b",
    "no-break space": "a\xa0b",
    "wide blank": "a\u3000b",
    "zero width": "a\u200bb",
    "right to left": "a\u202eb",
    "byte order mark": "\ufeffa",
    "a lone surrogate": "a\ud800",
    "1,025 bytes": "x" * 1_025,
    "1,026 bytes of two each": "é" * 513,
    "ten megabytes": LARGE,
    "a path up": "../../etc/passwd",
}
"""No id, whatever it is the id of."""

CARRIED_IDS: dict[str, str] = {
    "plain": "order-1",
    "signs": "a:b/c@d+e=f",
    "accents": "über-ïd",
    "another script": "订单-注文-주문",
    "Cyrillic that looks like Latin": "оrdеr-1",
    "a full stop of full width": "a．b",
    "an asterisk of full width": "＊",
    "a sign of full width": "＞",
    "an operator that looks like one": "a∗b",
    "percent escapes": "a%2Eb%0d%0a%00",
    "JetStream's prefix": "$JS",
    "the system's prefix": "$SYS",
    "the inbox's prefix": "_INBOX",
    "a format": "{0}%s%(x)s${x}",
    "a shell": "$(id)`id`;id|id&",
    "markup": "[bold]&amp;<b",
    "quotes": "'\"\\",
    "an emoji": "💥",
    "composed differently": "e\u0301",
    "1,024 bytes": "x" * 1_024,
    "-": "-",
    "--help": "--help",
}
"""Ids that are themselves and nothing else."""

TEXTS: dict[str, str] = CARRIED_IDS | {
    name: text
    for name, text in REFUSED_IDS.items()
    if name not in ("empty", "a lone surrogate", "1,025 bytes", "1,026 bytes of two each", "ten megabytes")
}
"""What an event may be called: dots, blanks, anything."""

REFUSED_TEXTS: dict[str, str] = {
    name: REFUSED_IDS[name] for name in ("a lone surrogate", "1,025 bytes", "1,026 bytes of two each", "ten megabytes")
}
"""What it may not."""

CONTEXTS = [
    "",
    ".",
    "..",
    "../x",
    "../../../../etc/passwd",
    "/etc/passwd",
    "a/b",
    "a/../b",
    "x/..",
    ".hidden",
    "a\0b",
    "a\nb",
    "a\x1b[2Jb",
    "a\u202eb",
    "a\ud800",
    LARGE,
]
"""Names of NATS contexts that are none."""

URLS = [
    "",
    " ",
    ",",
    ",,,",
    "nats://",
    "nats://:4222",
    "nats://h:0",
    "nats://h:99999",
    "nats://h:-1",
    "nats://h:4222\r\nPING",
    "nats://h\0:4222",
    "nats://h\x1b[2J",
    "nats://h h",
    "nats://h/../x",
    "nats://h?x=1",
    "nats://h#x",
    "nats://[::1",
    "nats://[x]",
    "file:///etc/passwd",
    "http://h",
    "javascript://h",
    "nats://\ud800",
    "nats://a\u3000b",
    "nats://h/@x",
    "\u202enats://h",
    "nats://" + "x" * 300,
    "nats://" + LARGE,
]
"""Addresses that are none."""
