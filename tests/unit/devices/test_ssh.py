import pytest

from packager.devices.ssh import Address, address
from packager.errors import ConfigError


@pytest.mark.parametrize(
    ("text", "user", "host", "port"),
    [
        ("board", None, "board", None),
        ("root@192.168.7.2", "root", "192.168.7.2", None),
        ("scan_user@board-3.example:2222", "scan_user", "board-3.example", 2222),
        ("[fe80::1]:22", None, "fe80::1", 22),
        ("root@[::1]", "root", "::1", None),
    ],
)
def test_an_address_names_user_host_and_port(
    text: str, user: str | None, host: str, port: int | None
) -> None:
    assert address(text) == Address(text=text, user=user, host=host, port=port)


@pytest.mark.parametrize(
    "text",
    ["", "-oProxyCommand=x", "-l@board", "a b", "board:", "board:0", "board:x", "@board", "a@b@c",
     "board;id", "$(id)", "board\n"],
)  # fmt: skip
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        address(text)

    problem = f"{text!r} is no address. Write ssh:HOST, ssh:USER@HOST or ssh:USER@HOST:PORT."
    assert str(caught.value) == f"--on: {problem}"
