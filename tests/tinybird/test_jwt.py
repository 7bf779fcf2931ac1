from __future__ import annotations

import subprocess
import sys

from tests.support.processes import PATIENCE, ROOT


def test_importing_the_check_loads_no_http_client_no_web_framework_and_no_optional_extra() -> None:
    program = (
        "import sys, traffic_analytics.tinybird.jwt;"
        "print({'requests', 'urllib3', 'flask', 'werkzeug', 'jwt'} & set(sys.modules))"
    )

    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True, timeout=PATIENCE
    )

    assert done.stdout.strip() == "set()"
