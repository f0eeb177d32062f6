"""Configs of runs, one file each: `def config() -> Config`. A variant is a few changed keys.

  from configs.quickstart import config as quickstart
  from gtalign_jax.config import Config, vary

  def config() -> Config:
    return vary(quickstart(), {"grpo.advantage": "rloo", "workdir": "runs/rloo"})

Not part of the installed package, whose users would not want a module of this general a name:
`gtalign train PATH` finds it beside the file, or in the working directory.
"""
