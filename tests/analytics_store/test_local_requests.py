from dataclasses import replace

import pytest
from flask.testing import FlaskClient

from analytics_store.settings import Settings
from analytics_store.wiring import create_app
from tests.support.store import hit, ndjson

URL = "/v0/events?name=analytics_events&wait=true"
LOCAL_HOSTS = ["localhost", "LOCALHOST:7181", "127.0.0.1", "127.0.0.1:7181", "127.9.8.7:1", "[::1]", "[::1]:7181"]
FOREIGN_HOSTS = [
    "",
    "evil.example",
    "evil.example:7181",
    "localhost.evil.example",
    "127.0.0.1.evil.example:7181",
    "evil.example@127.0.0.1",
    "127.0.0.1@evil.example",
    "127.0.0.1,evil.example",
    "[]",
    "[::2]:7181",
    "0.0.0.0:7181",
    "192.168.0.1",
    "store:7181",
]
FOREIGN_PAGES = [
    {"Origin": "https://evil.example"},
    {"Origin": "http://localhost.evil.example"},
    {"Origin": "http://127.0.0.1@evil.example"},
    {"Origin": "http://["},
    {"Origin": "null"},
    {"Origin": ""},
    {"Sec-Fetch-Site": "cross-site"},
]
ROUTES = [
    ("POST", URL),
    ("GET", "/v0/store/export?name=analytics_events"),
    ("POST", "/v0/store/compact"),
    ("GET", "/v0/pipes/api_kpis.json?site_uuid=site"),
    ("OPTIONS", URL),
]


@pytest.mark.parametrize("headers", [{"Host": host} for host in FOREIGN_HOSTS] + FOREIGN_PAGES, ids=str)
def test_a_store_without_tokens_refuses_foreign_names_and_pages(client: FlaskClient, headers: dict[str, str]) -> None:
    for method, path in ROUTES:
        response = client.open(path, method=method, data=ndjson([hit()]), content_type="text/plain", headers=headers)
        assert (response.status_code, "STORE_ADMIN_TOKEN" in response.get_json()["error"]) == (403, True)
    assert client.get("/v0/store/info").get_json()["hits"] == 0


@pytest.mark.parametrize(
    "headers",
    [
        *({"Host": host} for host in LOCAL_HOSTS),
        *({"Origin": origin} for origin in ("http://localhost:2368", "http://127.0.0.1", "http://[::1]:80")),
        {"Origin": "http://localhost:2368", "Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "none"},
    ],
    ids=str,
)
def test_a_store_without_tokens_serves_this_machine_without_cors(client: FlaskClient, headers: dict[str, str]) -> None:
    response = client.post(URL, json=hit(), headers=headers)
    assert response.status_code == 200
    assert not [name for name, _ in response.headers if name.lower().startswith("access-control")]


@pytest.mark.parametrize(
    ("target", "status"),
    [
        ("http://evil.example/v0/store/info", 403),
        ("http://[/v0/store/info", 403),
        ("http://localhost:1/v0/store/info", 200),
    ],
)
def test_the_host_of_an_absolute_target_counts_too(client: FlaskClient, target: str, status: int) -> None:
    assert client.get("/v0/store/info", environ_overrides={"RAW_URI": target}).status_code == status


@pytest.mark.parametrize("method", ["get", "post", "options"])
@pytest.mark.parametrize("url", ["/", "/health", "/nothing", "/v0/pipes/api_kpis.json", "/v0/events?name=x"])
def test_with_tokens_every_response_may_be_read_by_any_page(settings: Settings, url: str, method: str) -> None:
    app = create_app(replace(settings, admin_token="a"))
    headers = {"Host": "store.example", "Origin": "https://blog.example", "Authorization": "Bearer a"}
    response = app.test_client().open(url, method=method.upper(), headers=headers)
    assert response.headers["access-control-allow-origin"] == "*"
    assert "authorization" in response.headers["access-control-allow-headers"].lower()
    if method == "options":
        assert response.status_code == 204
    app.extensions["store"].close()


def test_with_tokens_a_preflight_allows_the_headers_that_the_browser_asks_for(settings: Settings) -> None:
    app = create_app(replace(settings, admin_token="a"))
    headers = {"Host": "store.example", "Access-Control-Request-Headers": "authorization,baggage,sentry-trace,x y"}
    response = app.test_client().options("/v0/pipes/api_kpis.json", headers=headers)
    assert response.headers["access-control-allow-headers"].endswith("x-site-uuid, baggage, sentry-trace")
    assert response.headers["vary"] == "Access-Control-Request-Headers"
    app.extensions["store"].close()
