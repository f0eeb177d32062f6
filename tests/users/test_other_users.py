"""Users that are a policy or a file; and what the section of users takes."""

import pytest
from talks import SLOT, talk

from gtalign_jax import users
from gtalign_jax.config import roles
from gtalign_jax.endpoint_sections import UserConfig
from gtalign_jax.errors import BadInput, RunFailure
from gtalign_jax.users.base import LEFT, NO_ANSWER, Said

TALKS = [talk(SLOT, "How many?", id="a"), talk(SLOT, "Eh?", "What?", "How many?", id="a")]


def test_a_policy_plays_the_same_part():
  chats = []

  def speak(given):
    chats.extend(given)
    return ["For 4 people.", "<leave/>", ""][: len(given)]

  config = UserConfig(kind="policy", max_words=2)
  it = users.connect(config, speak=speak)
  assert it.replies([*TALKS, TALKS[0]]) == [Said("For 4"), LEFT, NO_ANSWER]
  assert [each["role"] for chat in chats for each in chat] == ["user"] * 3
  assert not it.ends("wildguard")
  with pytest.raises(RunFailure, match="0 texts for 1 chats"):
    users.connect(config, speak=lambda chats: []).reply(TALKS[0])
  with pytest.raises(BadInput, match=r"^conversation\.user\.kind='policy' needs a model"):
    users.connect(config)


def recorded(path, *lines):
  path.write_text("\n".join(lines))
  return users.connect(UserConfig(kind="recorded", log=str(path)))


def test_a_file_answers_by_id_and_turn(tmp_path):
  lines = ['{"id": "a", "turn": 1, "content": "4"}', '{"id": "a", "turn": 2, "content": null}', ""]
  it = recorded(
    tmp_path / "log.jsonl",
    *lines,
    '{"id": 7, "turn": 1, "content": "5"}',
    '{"id": "7#1", "turn": 1, "content": "6"}',
  )
  others = [talk(SLOT, "?", id=each) for each in ("7", "b", "a#0", "7#1", "b#0")]
  assert it.replies([*TALKS, *others]) == [
    Said("4"), LEFT, Said("5"), NO_ANSWER, Said("4"), Said("6"), NO_ANSWER,
  ]  # fmt: skip
  late = TALKS[1]._replace(opening=3)  # the chat that the record brings has no turn of this one
  assert it.reply(late) == Said("4")


@pytest.mark.parametrize(
  "line, said",
  [
    ("{", "not a line of JSON"),
    ("[1]", "expected a JSON object"),
    ('{"turn": 1, "content": "4"}', "id='None' must be"),
    ('{"id": "a", "content": "4"}', "turn='None' must be a whole number from 1 on"),
    ('{"id": "a", "turn": 0, "content": "4"}', "turn='0' must be"),
    ('{"id": "a", "turn": true, "content": "4"}', "turn='True' must be"),
    ('{"id": "a", "turn": 1}', "content='' must be a text"),
    ('{"id": "a", "turn": 1, "content": " "}', "content=' ' must be a text, or null to leave"),
    ('{"id": "a", "turn": 1, "content": ["4"]}', "content=\"['4']\" must be a text"),
    ('{"id": "z", "turn": 1, "content": "4"}', "id='z', turn=1 stands there twice"),
  ],
)
def test_a_malformed_file_is_one_line_with_its_place(tmp_path, line, said):
  path = tmp_path / "log.jsonl"
  with pytest.raises(BadInput) as caught:
    recorded(path, '{"id": "z", "turn": 1, "content": "x"}', line)
  assert str(caught.value).startswith(f"{path}:2: {said}") and "\n" not in str(caught.value)


@pytest.mark.parametrize(
  "changes, said",
  [
    ({"kind": "htp"}, "conversation.user.kind='htp' is not one of rule, http, policy, recorded; "
                      "did you mean http?"),
    ({"kind": "http", "model": "m"}, "conversation.user.kind='http' needs conversation.user.base_u"),
    ({"kind": "recorded"}, "conversation.user.kind='recorded' needs conversation.user.log=FILE"),
    ({"cache": "s3://x/y"}, "conversation.user.cache='s3://x/y' is no local path"),
    ({"max_words": 0}, "conversation.user.max_words=0: must be at least 1"),
    ({"persona": 3}, "conversation.user.persona=3: expected str"),
    ({"deadline_s": 0}, "conversation.user.deadline_s=0.0: must be positive"),
    ({"base_url": "ftp://x"}, "conversation.user.base_url="),
    ({"api_key_env": "sk-1"}, "conversation.user.api_key_env must be the name of an environment"),
  ],
)  # fmt: skip
def test_the_section_refuses_what_breaks_its_rules(changes, said):
  with pytest.raises(BadInput) as caught:
    UserConfig(**changes)
  assert str(caught.value).startswith(said)


def test_what_is_identity():
  identity = {key for key, role in roles(UserConfig()).items() if role == "identity"}
  assert identity == {"kind", "log", "model", "persona", "max_words", "temperature", "extra_body"}
