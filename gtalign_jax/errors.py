"""Errors that a command turns into one line and an exit code."""


class BadInput(ValueError):
  """The user's input breaks a rule; exit code 2.

  The message is one line that names the key, the value, the rule and the fix.
  """


class RunFailure(RuntimeError):
  """The run could not go on (judge gone, disk full); what was saved is intact; exit code 1."""


def first_line(error: BaseException, length: int = 200) -> str:
  """The first line of what an error says, or its type where it says nothing.

  Libraries explain themselves over many lines; a message of ours is one line.
  """
  text = str(error).strip()
  return text.splitlines()[0][:length] if text else type(error).__name__
