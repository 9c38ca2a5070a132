"""The fleet page: static files that speak MQTT over websockets, and a small server for them."""
