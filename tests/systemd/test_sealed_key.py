"""The unit opens a sealed identity, and the agent is let in with it.

The seal is the host key's here, for a container has no TPM; a TPM's is in tests/e2e/test_enrolment.py.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from edge_agent.fleet import sealed
from tests.e2e.test_enrolment import Home, Office, enroll
from tests.e2e.test_fleet_broker import Client, FleetBroker
from tests.provisioned import PROVISIONING
from tests.systemd.machine import Machine, missing

SOURCE = "file:/opt/checkout/edge_agent/samples/find_a_way_out.flac?loop=1"
PEM = "/run/credentials/edge-agent.service/device.pem"


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_unit_opens_the_sealed_identity_for_the_agent_alone(tmp_path: Path) -> None:
    """By the drop-in that the enrolment writes: online over mutual TLS, no key in the clear on disk."""
    if missing():
        pytest.skip(missing())
    office = Office(tmp_path / "ca")
    signer = [sys.executable, str(PROVISIONING / "enroll/ca.py"), "sign", str(office.place), "reader"]
    environment = {**os.environ, "PYTHONPATH": str(PROVISIONING.parent)}
    subprocess.run(signer, check=True, capture_output=True, env=environment)
    (tmp_path / "broker").mkdir()
    broker = FleetBroker(office.place, tmp_path / "broker", revoked=True)
    broker.start()
    try:
        token = office.ca.token("kiosk-1")
        enroll.enrol(office.url, token, Home(tmp_path / "etc"))
        config = (
            f'[device]\nid = "kiosk-1"\n[audio]\nsource = "{SOURCE}"\n'
            f'[mqtt]\nurl = "mqtts://localhost:{broker.port}"\nca_file = "/etc/edge-agent/ca.crt"\n'
            f'cert_file = "{PEM}"\nkey_file = "{PEM}"\n'
        )
        files = {
            "etc/edge-agent/ca.crt": (tmp_path / "etc/ca.crt").read_text(),
            "run-once/device.pem": (tmp_path / "etc/device.pem").read_text(),
            "etc/systemd/system/edge-agent.service.d/identity.conf": sealed.drop_in(
                Path("/etc/edge-agent/device.cred")
            ).decode(),
        }
        with (
            Machine(tmp_path / "m", config, start=False, files=files) as box,
            Client(broker, "reader") as reader,
        ):
            box.run(
                *("systemd-creds", "encrypt", "--with-key=host", f"--name={sealed.CREDENTIAL}"),
                *("/run-once/device.pem", "/etc/edge-agent/device.cred"),
            )
            box.run("rm", "-r", "/run-once")
            box.run("systemctl", "start", "edge-agent")
            reader.subscribe("edge/kiosk-1/up/status")
            box.wait(lambda: any(h.body["state"] == "online" for h in reader.heard), 60, "online")
            assert box.run("stat", "-c", "%U %a", PEM).split()[1] in {"400", "440"}
            assert "PRIVATE KEY" not in box.run("cat", "/etc/edge-agent/device.cred")
            as_nobody = ("setpriv", "--reuid=nobody", "--clear-groups", "cat", PEM)
            assert "PRIVATE" not in box.run(*as_nobody, check=False)
    finally:
        broker.end()
        office.service.shutdown()
        office.service.server_close()
