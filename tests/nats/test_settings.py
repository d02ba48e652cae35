from __future__ import annotations

import json
import ssl
from datetime import timedelta
from pathlib import Path

import pytest
import trustme

from grctl_core.errors import InvalidInputError
from grctl_nats.safeguards import Safeguards
from grctl_nats.settings import DEFAULT_SERVER, Server, Settings, read_settings

SECRET = "s3cr3t-Pa55"
CREDENTIALS = "-----BEGIN NATS USER JWT-----\nx\n-----BEGIN USER NKEY SEED-----\n"
SEED = "SUAKYRHVIOREXV7EUZTBHUHL7NUMHPMAS7QMDU3GTIUWEI5LDNOXD43IZY"


def urls(*args, **options) -> list[str]:
    return [server.url for server in read_settings(*args, **options).servers]


class TestServers:
    def test_the_default(self):
        assert urls() == [DEFAULT_SERVER] == ["nats://localhost:4225"]

    @pytest.mark.parametrize("name", ["GRCTL_NATS_SERVERS", "grctl_NATS_SERVERS"])
    @pytest.mark.parametrize(
        ("value", "meant"),
        [
            ("nats://a:1", ["nats://a:1"]),
            ("  nats://a:1 ,tls://b:2,\n c ", ["nats://a:1", "tls://b:2", "nats://c:4222"]),
            ("a,,b,", ["nats://a:4222", "nats://b:4222"]),
            ("", [DEFAULT_SERVER]),
            ("   ", [DEFAULT_SERVER]),
        ],
    )
    def test_the_environment(self, monkeypatch, name, value, meant):
        monkeypatch.setenv(name, value)
        assert urls() == meant

    def test_the_capital_spelling_goes_first(self, monkeypatch):
        monkeypatch.setenv("GRCTL_NATS_SERVERS", "a")
        monkeypatch.setenv("grctl_NATS_SERVERS", "b")
        assert urls() == ["nats://a:4222"]
        monkeypatch.setenv("GRCTL_NATS_SERVERS", " ")
        assert urls() == ["nats://b:4222"]

    def test_arguments_win_over_the_environment(self, monkeypatch):
        monkeypatch.setenv("GRCTL_NATS_SERVERS", "a")
        assert urls("b") == ["nats://b:4222"]

    def test_a_comma_alone_in_the_environment_is_an_error(self, monkeypatch):
        monkeypatch.setenv("GRCTL_NATS_SERVERS", ",")
        with pytest.raises(InvalidInputError, match="servers is empty"):
            read_settings()

    @pytest.mark.parametrize("servers", ["a:1, b:2", ["a:1", "b:2"], ("a:1", " b:2 "), iter(["a:1", "b:2"])])
    def test_strings_and_lists(self, servers):
        assert urls(servers) == ["nats://a:1", "nats://b:2"]

    @pytest.mark.parametrize(
        ("text", "server"),
        [
            ("localhost", Server("localhost", 4222)),
            ("localhost:1", Server("localhost", 1)),
            ("nats://h", Server("h", 4222)),
            ("TLS://H:5", Server("h", 5, tls=True)),
            ("nats://[::1]:5", Server("::1", 5)),
            ("nats://u:p@h:1/", Server("h", 1, user="u", password="p")),
            ("nats://u%40x:p%3A%2F@h:1", Server("h", 1, user="u@x", password="p:/")),
            ("nats://token@h", Server("h", 4222, user="token")),
        ],
    )
    def test_an_address(self, text, server):
        assert read_settings(text).servers == (server,)

    def test_ipv6_is_written_with_brackets(self):
        assert urls("nats://[::1]:5") == ["nats://[::1]:5"]

    @pytest.mark.parametrize(
        ("servers", "said"),
        [
            ("", "servers is empty"),
            ([], "servers is empty"),
            (" , ", "servers is empty"),
            ([1], "servers must hold strings, not int"),
            ([None], "servers must hold strings, not NoneType"),
            ("http://a", "'http://': nats:// and tls://"),
            ("ws://a", "'ws://': nats:// and tls://"),
            ("nats://", "names no host"),
            ("nats://:4222", "names no host"),
            ("nats://:secret@a", "a password and no user"),
            ("nats://a:x", "is no URL"),
            ("nats://a:99999", "is no URL"),
            ("nats://a:-1", "is no URL"),
            ("nats://[::1", "is no URL"),
            ("nats://a:1/path", "something after the port"),
            ("nats://a:1?q=1", "something after the port"),
            ("nats://a:1#f", "something after the port"),
            ("nats://a b:1", "white space or control"),
            ("nats://a\r\nb:1", "white space or control"),
            ("nats://a\x00:1", "white space or control"),
            ("nats://a:0", "port"),
        ],
    )
    def test_a_bad_one(self, servers, said):
        with pytest.raises(InvalidInputError) as caught:
            read_settings(servers)
        assert said in str(caught.value)

    @pytest.mark.parametrize("servers", [1, 1.5, object(), b"nats://a", {"a": 1}.items()])
    def test_what_is_no_list_of_addresses(self, servers):
        with pytest.raises(InvalidInputError, match=r"servers"):
            read_settings(servers)

    @pytest.mark.parametrize(
        "text",
        [
            f"nats://{SECRET}/p@a",
            f"nats://{SECRET}/p:w@a:1",
            f"nats://{SECRET}#p@a",
            f"nats://{SECRET}?p@a",
            f"nats://user:{SECRET}@a:x",
            f"http://user:{SECRET}@a",
            f"nats://user:{SECRET}@",
            f"nats://user:{SECRET}@a:1/p",
            f"nats://user:{SECRET} x@a:1",
            f"nats://user:{SECRET}@[::1",
            f"nats://user:{SECRET}",  # taken for a port
            f"nats://{SECRET}@:1",
        ],
    )
    def test_messages_hold_no_password(self, text):
        with pytest.raises(InvalidInputError) as caught:
            read_settings(text)
        assert SECRET not in str(caught.value)
        assert SECRET.lower() not in str(caught.value).lower()
        assert caught.value.__cause__ is None


class TestLogin:
    @pytest.mark.parametrize(
        ("options", "said"),
        [
            ({"password": SECRET}, "a password needs a user"),
            ({"user": "u", "password": "p", "token": SECRET}, "one way to log in, not user and token"),
            ({"token": SECRET, "nkey": SEED}, "one way to log in, not token and nkey"),
            ({"credentials": "/no/such/file"}, "credentials: there is no file '/no/such/file'"),
            ({"nkey": "/no/such/file"}, "nkey: there is no file"),
            ({"nkey": SEED[:-1]}, "nkey"),
            ({"user": 5}, "user must be a string"),
            ({"user": "u", "password": 5}, "password must be a string"),
            ({"token": b"x"}, "token must be a string"),
            ({"name": 5}, "name must be a string"),
            ({"safeguards": {}}, "safeguards must be"),
        ],
    )
    def test_a_bad_one(self, options, said):
        with pytest.raises(InvalidInputError) as caught:
            read_settings("a", **options)
        assert said in str(caught.value)
        for secret in (SECRET, SEED, SEED[:-1]):
            assert secret not in str(caught.value)

    @pytest.mark.parametrize("name", ["credentials", "nkey", "tls_ca", "tls_cert", "tls_key"])
    @pytest.mark.parametrize(
        "value",
        [
            f" {SEED[:-1]}",
            f"SA{SEED[2:]}",
            f" SA{SEED[2:]}\n",
            f"{SEED}\n{SEED}",
            CREDENTIALS,
            f"/no/such/{SEED}",
            "x" * 300 + SECRET,
            f"a\x00{SECRET}",
            Path(SEED),
        ],
    )
    def test_what_is_no_path_is_not_shown(self, name, value):
        with pytest.raises(InvalidInputError, match=name) as caught:
            read_settings("a", **({"tls_cert": __file__} if name == "tls_key" else {}) | {name: value})
        for secret in (SECRET, SEED[2:-1]):
            assert secret not in str(caught.value)
            assert secret not in repr(caught.value.__cause__)

    def test_white_space_around_an_nkey(self):
        assert read_settings("a", nkey=f" {SEED}\n").nkey == SEED

    def test_a_long_path_of_a_file(self, tmp_path):
        folder = tmp_path / ("x" * 200) / ("y" * 200)
        folder.mkdir(parents=True)
        (folder / "my.creds").write_text(CREDENTIALS)
        assert read_settings("a", credentials=folder / "my.creds").credentials == str(folder / "my.creds")

    def test_a_path_of_no_home(self):
        with pytest.raises(InvalidInputError, match="credentials: there is no file '~nobody-of-this-name/x'"):
            read_settings("a", credentials="~nobody-of-this-name/x")

    @pytest.mark.parametrize("name", ["credentials", "nkey"])
    def test_a_file_that_cannot_be_read(self, tmp_path, monkeypatch, name):
        def refuse(path: Path) -> bytes:
            raise PermissionError(13, "Permission denied", str(path))

        (tmp_path / "f").touch()
        monkeypatch.setattr(Path, "read_bytes", refuse)
        with pytest.raises(InvalidInputError, match=rf"{name}: .* cannot be read: Permission denied"):
            read_settings("a", **{name: tmp_path / "f"})

    def test_reprs_hold_no_secret(self):
        settings = read_settings(f"nats://u:{SECRET}@a")
        others = [
            read_settings("a", token=SECRET),
            read_settings("a", user="u", password=SECRET),
            read_settings("a", nkey=SEED),
        ]
        for shown in [repr(settings), repr(settings.servers), str(settings), *map(repr, others)]:
            assert SECRET not in shown
            assert SEED not in shown
        assert repr(settings) == "<Settings nats://a:4222>"
        assert repr(settings.servers[0]) == "<Server nats://a:4222>"

    def test_an_nkey_itself_or_in_a_file(self, tmp_path):
        path = tmp_path / "user.nk"
        path.write_text(f"# mine\n{SEED}\n")
        assert read_settings("a", nkey=SEED).nkey == SEED
        assert read_settings("a", nkey=str(path)).nkey == SEED
        assert read_settings("a", nkey=path).nkey == SEED

    def test_an_nkey_file_without_a_seed(self, tmp_path):
        path = tmp_path / "user.nk"
        path.write_text("nothing")
        with pytest.raises(InvalidInputError, match="holds no user seed"):
            read_settings("a", nkey=path)

    def test_an_nkey_file_that_is_no_text(self, tmp_path):
        path = tmp_path / "user.nk"
        path.write_bytes(b"\xff\xfe\x00")
        with pytest.raises(InvalidInputError, match="holds no user seed"):
            read_settings("a", nkey=path)

    @pytest.mark.parametrize("content", ["", "x", "-----BEGIN NATS USER JWT-----\n"])
    def test_credentials_that_are_none(self, tmp_path, content):
        (tmp_path / "bad.creds").write_text(content)
        with pytest.raises(InvalidInputError, match=r"credentials: .*bad\.creds' holds no JWT and seed"):
            read_settings("a", credentials=tmp_path / "bad.creds")

    def test_a_credentials_path_of_home(self, tmp_path, monkeypatch):
        monkeypatch.setenv("HOME", str(tmp_path))
        (tmp_path / "my.creds").write_text(CREDENTIALS)
        assert read_settings("a", credentials="~/my.creds").credentials == str(tmp_path / "my.creds")


class TestTimesAndLimits:
    def test_defaults(self):
        settings = read_settings("a")
        assert (settings.connect_timeout, settings.request_timeout, settings.max_in_flight) == (5.0, 5.0, 512)
        assert settings.name == "grctl-client"
        assert settings.safeguards == Safeguards()

    def test_durations(self):
        settings = read_settings("a", connect_timeout=timedelta(seconds=2), request_timeout=0.5)
        assert (settings.connect_timeout, settings.request_timeout) == (2.0, 0.5)

    @pytest.mark.parametrize("name", ["connect_timeout", "request_timeout"])
    @pytest.mark.parametrize("value", [0, -1, float("nan"), float("inf"), "5", True, timedelta()])
    def test_bad_durations(self, name, value):
        with pytest.raises(InvalidInputError, match=name):
            read_settings("a", **{name: value})

    @pytest.mark.parametrize("value", [0, -1, 1.5, "5", True])
    def test_bad_limits(self, value):
        with pytest.raises(InvalidInputError, match="max_in_flight must be a whole number from 1"):
            read_settings("a", max_in_flight=value)

    def test_an_unknown_option(self):
        with pytest.raises(InvalidInputError, match="there is no option tls_cacert: the options are user, "):
            read_settings("a", tls_cacert="x")


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tls")
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(folder / "ca.pem"))
    mine = authority.issue_cert("me@example.org")
    mine.cert_chain_pems[0].write_to_path(str(folder / "cert.pem"))
    mine.private_key_pem.write_to_path(str(folder / "key.pem"))
    other = authority.issue_cert("other@example.org")
    other.private_key_pem.write_to_path(str(folder / "other.pem"))
    return folder


class TestTls:
    def test_none(self):
        assert read_settings("tls://a").tls is None

    def test_a_context(self):
        context = ssl.create_default_context()
        assert read_settings("tls://a", tls=context).tls is context

    def test_files(self, files):
        context = read_settings(
            "a", tls_ca=files / "ca.pem", tls_cert=str(files / "cert.pem"), tls_key=files / "key.pem"
        ).tls
        assert context.verify_mode == ssl.CERT_REQUIRED
        assert context.check_hostname
        assert len(context.get_ca_certs()) == 1

    @pytest.mark.parametrize(
        ("options", "said"),
        [
            ({"tls": True}, "tls must be an ssl.SSLContext, not bool"),
            ({"tls_key": "key.pem"}, "tls_key needs tls_cert"),
            ({"tls_ca": "none.pem"}, "tls_ca: there is no file"),
            ({"tls_cert": "none.pem", "tls_key": "key.pem"}, "tls_cert: there is no file"),
            ({"tls_cert": "cert.pem", "tls_key": "none.pem"}, "tls_key: there is no file"),
            ({"tls_ca": "key.pem"}, "the TLS files cannot be used"),
            ({"tls_cert": "cert.pem"}, "the TLS files cannot be used"),
            ({"tls_cert": "cert.pem", "tls_key": "other.pem"}, "the TLS files cannot be used"),
        ],
    )
    def test_a_bad_one(self, files, monkeypatch, options, said):
        monkeypatch.chdir(files)
        with pytest.raises(InvalidInputError, match=said):
            read_settings("a", **options)

    def test_a_context_and_files(self, files):
        with pytest.raises(InvalidInputError, match="pass either tls="):
            read_settings("a", tls=ssl.create_default_context(), tls_ca=files / "ca.pem")


class TestContext:
    @pytest.fixture
    def save(self, tmp_path, monkeypatch):
        monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
        folder = tmp_path / "nats" / "context"
        folder.mkdir(parents=True)

        def write(name: str, content: object) -> Path:
            path = folder / f"{name}.json"
            path.write_text(content if isinstance(content, str) else json.dumps(content))
            return path

        return write

    def test_everything_of_it(self, save, tmp_path):
        creds = tmp_path / "my.creds"
        creds.write_text(CREDENTIALS)
        save(
            "prod", {"description": "d", "url": "tls://a:1, tls://b:2", "creds": str(creds), "user": "", "jsdomain": ""}
        )
        settings = read_settings(context="prod")
        assert [server.url for server in settings.servers] == ["tls://a:1", "tls://b:2"]
        assert settings.credentials == str(creds)

    def test_it_wins_over_the_environment_and_arguments_over_it(self, save, monkeypatch):
        save("prod", {"url": "a", "user": "u", "password": SECRET})
        monkeypatch.setenv("GRCTL_NATS_SERVERS", "b")
        assert urls(context="prod") == ["nats://a:4222"]
        settings = read_settings("c", context="prod", token="t")
        assert [server.url for server in settings.servers] == ["nats://c:4222"]
        assert (settings.user, settings.password, settings.token) == (None, None, "t")

    def test_without_a_url(self, save):
        save("prod", {"url": "", "user": "u"})
        settings = read_settings(context="prod")
        assert (settings.servers[0].url, settings.user) == (DEFAULT_SERVER, "u")

    def test_it_lies_in_home_by_default(self, tmp_path, monkeypatch):
        monkeypatch.setenv("HOME", str(tmp_path))
        folder = tmp_path / ".config" / "nats" / "context"
        folder.mkdir(parents=True)
        (folder / "c.json").write_text('{"url": "a"}')
        assert urls(context="c") == ["nats://a:4222"]

    @pytest.mark.parametrize(
        "name", ["", ".", "..", "../secret", "a/b", "/etc/passwd", ".hidden", 5, "a\\..\\b/c", "a\x00b"]
    )
    def test_names_that_are_none(self, save, name):
        with pytest.raises(InvalidInputError, match=r"context must be the name of a NATS context"):
            read_settings(context=name)

    def test_an_unknown_one(self, save):
        with pytest.raises(InvalidInputError, match=r"there is no NATS context 'none': .*none.json' does not exist"):
            read_settings(context="none")

    @pytest.mark.parametrize("content", ["{", "[]", "5", "\xff"])
    def test_a_broken_one(self, save, content):
        save("bad", content)
        with pytest.raises(InvalidInputError, match="the NATS context 'bad' "):
            read_settings(context="bad")

    def test_values_of_other_types(self, save):
        save("bad", {"url": 5})
        with pytest.raises(InvalidInputError):
            read_settings(context="bad")
        save("worse", {"url": "a", "user": {"a": 1}})
        with pytest.raises(InvalidInputError):
            read_settings(context="worse")

    def test_its_secrets_are_in_no_message(self, save):
        save("bad", {"url": f"http://u:{SECRET}@a"})
        with pytest.raises(InvalidInputError) as caught:
            read_settings(context="bad")
        assert SECRET not in str(caught.value)
        save("cut", f'{{"password": "{SECRET}"')
        with pytest.raises(InvalidInputError) as caught:
            read_settings(context="cut")
        assert SECRET not in str(caught.value)


class TestInboxPrefix:
    @pytest.mark.parametrize("prefix", ["_INBOX", "_INBOX_me", "shop.replies", "ü", "x" * 200])
    def test_given(self, prefix):
        assert read_settings("a", inbox_prefix=prefix).inbox_prefix == prefix

    def test_not_given(self):
        assert read_settings("a").inbox_prefix == read_settings("a", inbox_prefix=None).inbox_prefix == "_INBOX"

    @pytest.mark.parametrize(
        "prefix",
        ["", ".", "a.", ".a", "a..b", "a b", "a\n", "*", "a.*", "a.*.b", ">", "a>", "a.>.b", "x" * 201, "\x00"],
    )
    def test_none_at_all(self, prefix):
        with pytest.raises(InvalidInputError, match=r"inbox_prefix .* is no beginning of a subject: write"):
            read_settings("a", inbox_prefix=prefix)

    @pytest.mark.parametrize("prefix", [5, b"x", ["x"]])
    def test_another_type(self, prefix):
        with pytest.raises(InvalidInputError, match="inbox_prefix must be a string, not"):
            read_settings("a", inbox_prefix=prefix)

    def test_the_permission_itself(self):
        with pytest.raises(InvalidInputError, match=r"write '_INBOX_me', not '_INBOX_me\.>'"):
            read_settings("a", inbox_prefix="_INBOX_me.>")

    def test_of_a_context(self, tmp_path, monkeypatch):
        monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
        folder = tmp_path / "nats" / "context"
        folder.mkdir(parents=True)
        (folder / "shop.json").write_text('{"url": "a", "inbox_prefix": "_INBOX_shop"}')
        (folder / "plain.json").write_text('{"url": "a", "inbox_prefix": ""}')
        assert read_settings(context="shop").inbox_prefix == "_INBOX_shop"
        assert read_settings(context="shop", user="u", password="p").inbox_prefix == "_INBOX_shop"
        assert read_settings(context="shop", inbox_prefix="mine").inbox_prefix == "mine"
        assert read_settings(context="plain").inbox_prefix == "_INBOX"


def test_settings_are_a_value():
    assert read_settings("a") == Settings(servers=(Server("a", 4222),))
