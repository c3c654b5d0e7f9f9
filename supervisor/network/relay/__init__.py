"""The program that leads ports of the host into an ordinary user's sandbox, and its door."""
