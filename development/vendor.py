"""Renew the dashboard's vendored files from the npm packages that package.json pins: `npm ci`, then run this.

uPlot is copied. The map is made from world-atlas (Natural Earth, 1:110 million): countries in the Equal Earth
projection as paths of SVG by ISO 3166 code, in whole units, which is a third of the size.
"""

from __future__ import annotations

import json
import math
import shutil
from itertools import pairwise
from pathlib import Path
from typing import Any

PACKAGES = Path("node_modules")
VENDOR = Path("traffic_analytics/dashboard/static/vendor")
UPLOT = {
    "dist/uPlot.esm.js": "uPlot.esm.js",
    "dist/uPlot.min.css": "uPlot.min.css",
    "dist/uPlot.d.ts": "uPlot.esm.d.ts",
    "LICENSE": "LICENSE",
}
WIDTH = 1000
"""Width of the map, in its own units."""
SOUTH, NORTH = -57.0, 83.7
"""Latitudes between which there are countries with readers, in degrees."""
WITHOUT_CODE = {"Kosovo": "XK", "N. Cyprus": "CY", "Somaliland": "SO"}
"""Codes that visitors report in the areas to which the atlas gives no code."""
EQUAL_EARTH = (1.340264, -0.081106, 0.000893, 0.003796)

Point = tuple[float, float]


def main() -> None:
    """Write all files."""
    (VENDOR / "uplot").mkdir(parents=True, exist_ok=True)
    for source, name in UPLOT.items():
        shutil.copyfile(PACKAGES / "uplot" / source, VENDOR / "uplot" / name)
    folder = VENDOR / "world-map"
    folder.mkdir(parents=True, exist_ok=True)
    atlas = json.loads((PACKAGES / "world-atlas/countries-110m.json").read_text(encoding="utf-8"))
    codes = json.loads((PACKAGES / "i18n-iso-countries/codes.json").read_text(encoding="utf-8"))
    written = json.dumps(world_map(atlas, {number: code for code, _, number, *_ in codes}), separators=(",", ":"))
    (folder / "countries.json").write_text(written + "\n", encoding="utf-8")
    shutil.copyfile(PACKAGES / "world-atlas/LICENSE", folder / "LICENSE")
    versions = {name: version_of(name) for name in ("uplot", "world-atlas")}
    (VENDOR / "versions.json").write_text(json.dumps(versions, indent=2) + "\n", encoding="utf-8")


def version_of(package: str) -> str:
    """Return the version of an installed npm package."""
    version: str = json.loads((PACKAGES / package / "package.json").read_text(encoding="utf-8"))["version"]
    return version


def world_map(atlas: dict[str, Any], codes: dict[str, str]) -> dict[str, Any]:
    """Return the size of the map, and the path of each country."""
    arcs = [read_arc(arc, atlas["transform"]) for arc in atlas["arcs"]]
    paths: dict[str, str] = {}
    for country in atlas["objects"]["countries"]["geometries"]:
        code = codes.get(country.get("id", "")) or WITHOUT_CODE[country["properties"]["name"]]
        polygons = country["arcs"] if country["type"] == "MultiPolygon" else [country["arcs"]]
        path = "".join(ring_path(ring, arcs) for polygon in polygons for ring in polygon)
        if code != "AQ":
            paths[code] = paths.get(code, "") + path
    return {"width": WIDTH, "height": round(project((0, SOUTH))[1]), "countries": dict(sorted(paths.items()))}


def read_arc(arc: list[list[int]], transform: dict[str, list[float]]) -> list[Point]:
    """Return the longitudes and latitudes of an arc, whose points TopoJSON writes as differences."""
    (scale_x, scale_y), (move_x, move_y) = transform["scale"], transform["translate"]
    x = y = 0
    points = []
    for step_x, step_y in arc:
        x, y = x + step_x, y + step_y
        points.append((x * scale_x + move_x, y * scale_y + move_y))
    return points


def ring_path(ring: list[int], arcs: list[list[Point]]) -> str:
    """Return a ring as a closed path with relative steps; empty if it is smaller than the map's unit."""
    points: list[tuple[int, int]] = []
    before = None
    for number in ring:
        for longitude, latitude in arcs[number] if number >= 0 else reversed(arcs[~number]):
            # A ring that crosses the 180th meridian continues beyond the edge of the map.
            turns = 0 if before is None else round((before - longitude) / 360)
            before = longitude + turns * 360
            x, y = project((before, latitude))
            if not points or points[-1] != (round(x), round(y)):
                points.append((round(x), round(y)))
    if len(set(points)) < 3:
        return ""
    steps = " ".join(f"{x - before_x},{y - before_y}" for (before_x, before_y), (x, y) in pairwise(points[:-1]))
    return f"M{points[0][0]},{points[0][1]}l{steps}z".replace(" -", "-").replace(",-", "-")


def project(point: Point) -> Point:
    """Return a point's place on the map, from its top left corner."""
    unit = WIDTH / (2 * equal_earth((180, 0))[0])
    x, y = equal_earth((point[0], min(max(point[1], SOUTH), NORTH)))
    return WIDTH / 2 + x * unit, (equal_earth((0, NORTH))[1] - y) * unit


def equal_earth(point: Point) -> Point:
    """Project a point (Šavrič, Patterson and Jenny, 2018)."""
    a1, a2, a3, a4 = EQUAL_EARTH
    longitude, latitude = map(math.radians, point)
    t = math.asin(math.sqrt(3) / 2 * math.sin(latitude))
    x = 2 * math.sqrt(3) * longitude * math.cos(t) / (3 * (9 * a4 * t**8 + 7 * a3 * t**6 + 3 * a2 * t**2 + a1))
    return x, a4 * t**9 + a3 * t**7 + a2 * t**3 + a1 * t


if __name__ == "__main__":
    main()
