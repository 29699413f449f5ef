"""Review by people: blind sheets, what raters answered on them, and what that comes to."""
