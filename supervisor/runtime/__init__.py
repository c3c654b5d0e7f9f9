"""libpod's part: the engine, its containers' workers, the state machine, restarts, exec sessions."""
