"""Parts of user agents."""

from __future__ import annotations

WEBKIT = "AppleWebKit/605.1.15 (KHTML, like Gecko)"
BLINK = "AppleWebKit/537.36 (KHTML, like Gecko)"
IPHONE = f"Mozilla/5.0 (iPhone; CPU iPhone OS 17_4_1 like Mac OS X) {WEBKIT}"
MAC = f"Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) {WEBKIT}"
IPAD = f"Mozilla/5.0 (iPad; CPU OS 17_4 like Mac OS X) {WEBKIT}"
WEBVIEW = (
    f"Mozilla/5.0 (Linux; Android 13; SM-A536B; wv) {BLINK} Version/4.0 Chrome/123.0.6312.118 Mobile Safari/537.36"
)
PHONE = f"Mozilla/5.0 (Linux; Android 10; K) {BLINK} Chrome/124.0.0.0 Mobile Safari/537.36"
WINDOWS = f"Mozilla/5.0 (Windows NT 10.0; Win64; x64) {BLINK} Chrome/122.0.0.0 Safari/537.36"


def blink(system: str, browser: str = "Chrome/120.0.0.0") -> str:
    """Return the user agent of a browser like Chrome."""
    return f"Mozilla/5.0 ({system}) {BLINK} {browser} Safari/537.36"
