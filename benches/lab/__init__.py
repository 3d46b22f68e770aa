"""What the three measuring scripts share: tools, instances, proxies, requests, a counting client.

Nothing here is measured by itself. Python's standard library only.
"""
