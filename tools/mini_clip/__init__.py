"""How the bundled mini CLIP was made: training, its measure, and contact sheets of the mini world."""
