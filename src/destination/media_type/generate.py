"""Prints mime.types from the directory of the npm package mime-db:

    npm pack mime-db && tar xf mime-db-*.tgz && python3 generate.py package > mime.types

If several types name one extension, the type with the highest score wins, as in the npm package mime-types: registered
types before vendors' types before experimental ones, then IANA before other sources, then shorter names."""
import json
import re
import sys
from collections import defaultdict
from pathlib import Path

FACETS = {"prs.": 100, "x-": 200, "x.": 300, "vnd.": 400}
SOURCES = {"nginx": 10, "apache": 20, None: 30, "iana": 40}
KINDS = {"application": 1, "font": 2, "audio": 2, "video": 3}


def score(name, source):
    if name == "application/octet-stream":
        return 0
    kind, subtype = name.split("/")
    facet = re.sub(r"(\.|x-).*", r"\1", subtype)
    return FACETS.get(facet, 900) + SOURCES[source] + KINDS.get(kind, 0) + 1 - len(name) / 100


package = Path(sys.argv[1])
claims = defaultdict(list)
for name, entry in json.loads((package / "db.json").read_text()).items():
    for extension in entry.get("extensions", []):
        claims[extension].append((score(name, entry.get("source")), name))
extensions = defaultdict(list)
for extension in sorted(claims):
    extensions[max(claims[extension])[1]].append(extension)

version = json.loads((package / "package.json").read_text())["version"]
print(f"# The media types of the npm package mime-db {version}, one for each extension; generate.py wrote this file.\n#")
for line in (package / "LICENSE").read_text().splitlines():
    print(f"# {line}".rstrip())
print()
for name in sorted(extensions):
    print(name, *extensions[name])
