"""The quickstart with one thing changed in each; two runs are set side by side by

gtalign compare runs/quickstart/eval/grpo.jsonl runs/rloo/eval/grpo.jsonl
"""
