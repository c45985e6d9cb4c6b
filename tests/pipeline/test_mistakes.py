import gzip
import json
from itertools import chain
from pathlib import Path
from time import time
from uuid import uuid4

import httpx

from .mistakes import TABLE, document

ROWS = list(chain.from_iterable(TABLE.values()))


def answer(pipeline, rig, mistake):
    content = mistake.body.encode() if isinstance(mistake.body, str) else mistake.body
    now = int(time())
    texts = {
        "{device}": rig.uuid,
        "{sensor}": rig.sensors["pump"],
        "{other}": str(uuid4()),
        "{now}": str(now),
        "{ahead}": str(now + 3600),
    }
    for name, text in texts.items():
        content = content.replace(name.encode(), text.encode())
    content = gzip.compress(content) if mistake.packed else content
    return httpx.request(
        mistake.method, pipeline.url + mistake.path, content=content, headers=mistake.headers
    )


def test_each_mistake_gets_its_response_and_input_is_not_repeated(pipeline):
    pipeline.start_edge()
    rig = pipeline.register()
    assert len(ROWS) >= 40
    wrong = []
    for mistake in ROWS:
        got = answer(pipeline, rig, mistake)
        body = got.json()
        said = " ".join(body.get("warnings", [])) if got.is_success else body["detail"]
        right = mistake.says in said and (bool(mistake.says) or not said)
        if got.status_code != mistake.status or not right:
            wrong.append((mistake.what, got.status_code, said))
        if not got.is_success:
            assert got.headers["content-type"] == "application/problem+json"
            assert "boiler" not in said
    assert not wrong, json.dumps(wrong, indent=1)


def test_the_table_in_the_docs_is_up_to_date():
    assert (Path(__file__).parents[2] / "docs" / "mistakes.md").read_text() == document()
