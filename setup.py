"""Packaging of gtalign_jax; tool settings live in pyproject.toml."""

from pathlib import Path

from setuptools import find_packages, setup

HERE = Path(__file__).parent

REQUIRED = [
  "jax>=0.10.2",
  "flax>=0.12.7",
  "optax>=0.2.8",
  "orbax-checkpoint>=0.12.7",
  "chex>=0.1.90",
  "numpy>=2.0",
  "transformers>=5.0",
  "huggingface_hub>=1.0",
  "tokenizers>=0.22",
  "safetensors>=0.6",
  "gguf>=0.17",
  "jinja2>=3.1.6",  # chat templates; earlier sandboxes leak
  "datasets>=4.0",
  "pyarrow>=21",  # parquet; datasets brings it
  "tensorflow-datasets>=4.9.9",
  "importlib_resources>=6.0",  # tensorflow-datasets uses it and does not install it
  "array_record>=0.8",
  "grain>=0.2.12",
  "math-verify[antlr4_13_2]>=0.8",
  "sacrebleu>=2.5",
  "nltk>=3.9",
  "httpx2>=2.0",  # the judge's and the teacher's requests
  "starlette>=1.0,<2",  # `gtalign serve`
  "uvicorn>=0.35,<1",
  "prometheus_client>=0.21",
  "matplotlib>=3.9",
  "rich>=13",
  "xxhash>=3.4",  # digests of checkpoints
]
EXTRAS = {
  "cpu": [],  # the default: plain jax already runs on CPU
  "tpu": ["jax[tpu]>=0.10.2"],
  "cuda12": ["jax[cuda12]>=0.10.2"],
  "cuda13": ["jax[cuda13]>=0.10.2"],
  "tensorboard": ["tensorboardX>=2.6"],
  "wandb": ["wandb>=0.18"],
  "dev": [
    "pytest>=8",
    "pytest-xdist>=3.6",
    "hypothesis>=6.100",
    "ruff>=0.8",
    "mypy>=1.13",
    "nashpy>=0.0.41",
    "moocore>=0.1.8",
    "tensorboardX>=2.6",
    "playwright>=1.50",  # drives an installed Chromium; it needs to download none
    "axe-playwright-python>=0.1.4",
    "openai>=2.0",  # the client that the server is tested with
  ],
  # torch is the reference implementation in tests/parity, never a dependency of the package.
  "parity": ["torch==2.13.0", "accelerate>=1.0"],  # transformers wants accelerate to read GGUF
}

setup(
  name="gtalign-jax",
  version="0.1.0",
  description="GTAlign (arXiv 2510.08872) in JAX: game-theoretic alignment of assistants",
  long_description=(HERE / "README.md").read_text(encoding="utf-8"),
  long_description_content_type="text/markdown",
  license="Apache-2.0",
  python_requires=">=3.11",
  # without configs/: the name is too general for site-packages, and `gtalign train PATH` finds the
  # package that a config file lies in (gtalign_jax/config.py)
  packages=find_packages(include=["gtalign_jax", "gtalign_jax.*"]),
  package_data={
    "gtalign_jax": [
      "concierge_words.toml",
      "data/sample/*.jsonl",
      "data/templates/*/*.txt",
      "report/*.html",
      "report/*.md",
      "serve/*.html",
      "synthesize/*.toml",
      "train/live/*",
      "users/*.toml",
    ]
  },
  install_requires=REQUIRED,
  extras_require=EXTRAS,
  entry_points={"console_scripts": ["gtalign=gtalign_jax.cli.main:main"]},
)
