"""The rig of bench/compare: what is started, what is measured, what it should cost."""
