"""Work for a Debian guest by the programs that people use, each with a law of its own: what a client has been told
stays true, whichever host serves."""
