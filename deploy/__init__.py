"""How Rendermill is deployed; nothing here is part of the running farm."""
