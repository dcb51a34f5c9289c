"""Outbound HTTP: one pooled client a service that is called.

prices = Client(name="prices", base_url_setting="PRICES_URL")
price = prices.get(f"/v1/prices/{item_id}", answer=Price)
"""

from threadkit.clients.client import BadAnswer, Client, UpstreamAway, http

__all__ = ["BadAnswer", "Client", "UpstreamAway", "http"]
