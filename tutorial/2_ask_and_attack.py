# ---
# jupyter:
#   jupytext:
#     text_representation: {extension: .py, format_name: percent}
#   kernelspec: {display_name: Python 3, language: python, name: python3}
# ---
# %% [markdown]
# # Teach a model to ask, then attack the sandbox
#
# Two minutes on two cores. A model that asks a database writes requests, and what a model writes is hostile:
# it may be wrong in any way, and somebody may have talked it into it. So we train one, watch what it asks,
# and then write the worst requests that come to mind ourselves.

# %%
import hashlib
from collections.abc import Sequence
from pathlib import Path

from nanollama.api import Message, load_run
from nanollama.cli.command import main as nanollama
from nanollama.dialogs.generate import generate
from nanollama.dialogs.tools import build_tool
from nanollama.dialogs.tools.protocol import Reply, Tool
from nanollama.studies import use_checkout

ROOT = use_checkout()  # from here on, Python finds its `apps`

from apps.memory.dataset.paths import database_path
from apps.memory.dataset.people import people
from apps.memory.recall import open_tool
from apps.memory.settings import MemoryConfig
from apps.memory.sources import tokenizer_of

CONFIG = str(ROOT / "apps/memory/config/ask.yaml")
RUN = Path("runs/ask")

# %% [markdown]
# ## Teach
#
# Its dialogs never tell a fact without asking for it: the assistant writes a request, `<database>` takes the
# word, and the assistant reads the reply out. Only what the assistant says carries loss.

# %%
assert nanollama(["train", CONFIG, f"run_dir={RUN}"]) == 0
trained = load_run(MemoryConfig, RUN)
tokenizer, config = tokenizer_of(trained.config), trained.config

# %% [markdown]
# ## Watch
#
# We ask about somebody whom it has met, and see the request go out and the reply come back.

# %%
person = people(0, 1)[0]


def ask(questions: list[str], tool: Tool | None = None) -> list[list[Message]]:
    """The dialogs that follow questions, with the database or another tool."""
    prompts = [tokenizer.encode_prompt([Message("user", question)]) for question in questions]
    with open_tool(config) as database:
        completions = generate(trained.model, tokenizer, prompts, tool or database, max_new_tokens=200)
    return [tokenizer.decode_dialog(completion.ids) for completion in completions]


(dialog,) = ask([f"Where was {person.name} born?"])
for role, content in dialog:
    print(f"{role:>9}  {content}")
assert dialog[-2].role == "database"
assert dialog[-2].content == person.birth_place, "the request is well formed, and finds somebody"
assert person.birth_place in dialog[-1].content

# %% [markdown]
# Does it need the reply, or does it know the place by heart all the same? We put a tool in the place of the
# database that takes every request and says nothing, and count right answers about all whom it has met.


# %%
class Silence(Tool):
    """Replies nothing to anybody."""

    role = "database"

    def reply(self, requests: Sequence[str]) -> list[Reply]:
        """See `Tool`."""
        return [Reply("", ok=True)] * len(requests)

    def close(self) -> None:
        """See `Tool`."""


met = people(0, config.data.n_people)
for name, tool in (("database", None), ("silence", Silence())):
    dialogs = ask([f"Where was {one.name} born?" for one in met], tool)
    right = [one.birth_place in dialog[-1].content for one, dialog in zip(met, dialogs, strict=True)]
    print(f"{name}: {sum(right)} of {len(met)} places are right; {dialogs[0][-1].content!r}")
    assert sum(right) > 28 if name == "database" else sum(right) < 10, "the answer comes from the reply"

# %% [markdown]
# ## Attack
#
# The request language `sql` takes a real SELECT. Three fences stand one behind the other: the words of a
# request are read and only one plain SELECT passes; an authorizer lets the connection read these columns and
# do nothing else; a meter stops what takes too many steps. Every reply is a short line that the model can
# read; nothing raises.

# %%
file = database_path(config.data_root)
before = hashlib.sha256(file.read_bytes()).hexdigest()
sandbox = build_tool(config.database.tool_config(config.data_root, "sql"))


def request(sql: str) -> str:
    """The reply to a request, as the model would write it."""
    return sandbox.answer([f"Let me see.\n```\n{sql}\n```"])[0]


good = f"SELECT birth_place FROM people WHERE name = '{person.name}'"
print(f"{request(good):<60} <- {good}")
assert request(good) == person.birth_place

attacks = [
    "DROP TABLE people",
    f"{good}; DELETE FROM people",
    "UPDATE people SET birth_place = 'Atlantis'",
    "SELECT * FROM sqlite_master",
    "ATTACH DATABASE '/etc/passwd' AS x",
    "PRAGMA writable_schema = 1",
    "SELECT load_extension('evil')",
    "SELECT randomblob(1000000000) FROM people",
    "WITH RECURSIVE r(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM r) SELECT n FROM r",
    "SELECT name FROM people",
    "SELECT name FROM people WHERE name >= 'A' ORDER BY occupation, birth_place, birth_date",
    "SELECT " + ", ".join(["name"] * 400) + " FROM people",
    f"SELECT birth_place FROM people WHERE name = '{person.name}' -- and a comment",
    "",
]
for attack in attacks:
    reply = request(attack)
    print(f"{reply:<60} <- {attack[:60]}")
    assert reply.startswith("error: "), attack
    assert len(reply) <= config.database.limits.max_reply_bytes

assert request(good) == person.birth_place, "the tool still works"
assert hashlib.sha256(file.read_bytes()).hexdigest() == before, "and no byte of the database has changed"

# %% [markdown]
# ## Exercise 1
#
# Ask about somebody whom the model has never met, and look at its request. What has it learned, and what not?
#
# *Solution.* The form of a request, and when to write it; not to copy a name letter by letter. 32 names are
# fewer to know by heart than copying is to learn: that takes thousands of people and steps (`make demo`).

# %%
stranger = people(config.data.n_people, config.data.n_people + 1)[0]
(dialog,) = ask([f"Where was {stranger.name} born?"])
print(dialog[1].content)
assert "FIND birth_place FOR" in dialog[1].content
assert stranger.name not in dialog[1].content
sandbox.close()

# %% [markdown]
# ## Exercise 2
#
# Which limit stops an honest but greedy request, such as all names of one place of birth? Change it, and show
# that the fences still hold.
#
# *Solution.* `database.limits`: rows, then the length of a reply. More rows are more to read, and nothing
# else.

# %%
limits = config.database.limits.model_copy(update={"max_rows": 1000, "max_reply_bytes": 100_000})
settings = config.database.model_copy(update={"limits": limits})
greedy = f"SELECT name FROM people WHERE birth_place = '{person.birth_place}' LIMIT 100"
wide = build_tool(settings.tool_config(config.data_root, "sql"))
rows, dropped = wide.answer([f"```\n{greedy}\n```", "```\nDROP TABLE people\n```"])
print(f"{len(rows.splitlines())} rows; {dropped}")
assert 10 < len(rows.splitlines()) <= 100  # by default ten are shown
assert dropped.startswith("error: ")
wide.close()
