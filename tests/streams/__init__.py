"""Tests of the verbs that carry streams: run, attach, exec, logs, events."""
