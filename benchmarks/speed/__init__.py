"""How fast adaptation is, against what bounds it; each module is one command."""
