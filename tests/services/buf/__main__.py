"""`python -m tests.services.buf COMMAND …`: buf from the command line, for who changes proto files."""

import sys

from tests.services.buf import buf

done = buf(*sys.argv[1:])
sys.stdout.write(done.stdout)
sys.stderr.write(done.stderr)
sys.exit(done.returncode)
