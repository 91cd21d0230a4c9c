"""The asyncio server: front door, and the driver of the dispatcher."""
