"""Parts of scripts/torture."""
