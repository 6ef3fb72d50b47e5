"""Workers: processes of this machine, or of a Ray cluster, that compute what they are handed."""
