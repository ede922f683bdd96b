from packager.devices.adb import Attached, attached

LISTING = """\
* daemon not running; starting now at tcp:5037
* daemon started successfully
List of devices attached
R58M123\tdevice
emulator-5554\toffline
0123456789ABCDEF\tno permissions (user in plugdev group); see [http://developer.android.com]
192.168.1.7:5555\tunauthorized

"""


def test_what_is_attached_is_listed_with_its_state() -> None:
    assert attached(LISTING) == (
        Attached(serial="R58M123", state="device"),
        Attached(serial="emulator-5554", state="offline"),
        Attached(serial="0123456789ABCDEF", state="no permissions"),
        Attached(serial="192.168.1.7:5555", state="unauthorized"),
    )


def test_nothing_is_attached() -> None:
    assert attached("List of devices attached\n\n") == ()
