"""Ansible's way into a booted container: `ansible_machine_leader` is the process id of its first process."""

from __future__ import annotations

import shlex
import shutil

from ansible.plugins.connection.local import Connection as Local

DOCUMENTATION = """
name: machine
short_description: a booted container of this machine
description: Runs commands by nsenter.
author: the edge-asr-agent authors
options:
  leader:
    description: process id of its first process
    vars:
      - name: ansible_machine_leader
  become_success_timeout:
    description: as of local
    type: int
    default: 10
  become_strip_preamble:
    description: as of local
    type: bool
    default: true
extends_documentation_fragment: [connection_pipelining]
"""


class Connection(Local):
    """As on this machine, but inside."""

    transport = "machine"

    def exec_command(self, cmd: str, in_data: bytes | None = None, sudoable: bool = True) -> tuple:
        inside = f"nsenter -t {self.get_option('leader')} -a -- /bin/sh -c {shlex.quote(cmd)}"
        return super().exec_command(inside, in_data, sudoable)

    def put_file(self, in_path: str, out_path: str) -> None:
        # Not by `local`: it would follow /proc/.../root to where that link seems to lead, to our own root.
        shutil.copyfile(in_path, f"/proc/{self.get_option('leader')}/root{out_path}")

    def fetch_file(self, in_path: str, out_path: str) -> None:
        shutil.copyfile(f"/proc/{self.get_option('leader')}/root{in_path}", out_path)
