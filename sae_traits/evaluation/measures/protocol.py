"""Which rules a measure follows where the code released with the papers has a fault."""

from typing import Literal

Protocol = Literal["published", "corrected"]
"""`published` is what the released code returns, right or wrong: for comparison with published scores alone.

`corrected` is the usual definition of the measure."""
