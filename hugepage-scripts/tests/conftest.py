"""What tests of weft-host begin with."""

import pytest

from made_up_host import Host


@pytest.fixture
def host(tmp_path):
    return Host(tmp_path / "host")


@pytest.fixture
def nic(host):
    host.add_nic("0000:01:00.0", "eth1", group=5)
    host.load_vfio()
    return host
