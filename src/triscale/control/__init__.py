"""Control: makes what runs follow the plan, in real time."""
