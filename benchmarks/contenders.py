"""Contenders of sampling.py that need environments of their own, as scripts: a job on standard input, a result printed."""

LLAMA_CPP = """
import concurrent.futures, json, sys, time, urllib.request
import xllamacpp as xlc
job = json.load(sys.stdin)
params = xlc.CommonParams()
params.model.path = sys.argv[1]
params.n_parallel = int(sys.argv[2])
params.n_ctx = 512 * params.n_parallel
params.cont_batching = True
params.n_batch = 2048
server = xlc.Server(params)
body = {k: job[k] for k in ("temperature", "top_p", "max_tokens")}
def ask(messages, seed):
    return server.handle_chat_completions({**body, "messages": messages, "seed": seed})["usage"]["completion_tokens"]
ask(job["prompts"][0], 0)
started = time.perf_counter()
with concurrent.futures.ThreadPoolExecutor(int(sys.argv[2])) as pool:
    tokens = sum(pool.map(lambda a: ask(*a), [(p, s) for p in job["prompts"] for s in range(job["samples"])]))
print(json.dumps({"tokens": tokens, "seconds": time.perf_counter() - started}))
"""

VLLM = """
import json, os, sys, time
os.environ["VLLM_CPU_OMP_THREADS_BIND"] = f"0-{os.cpu_count() - 1}"  # it would leave one core idle
from vllm import LLM, SamplingParams
job = json.load(sys.stdin)
llm = LLM(sys.argv[1], dtype="bfloat16", max_model_len=1024, gpu_memory_utilization=0.2)
params = SamplingParams(  # without a seed: the CPU build fails with one
    n=job["samples"], temperature=job["temperature"], top_p=job["top_p"], max_tokens=job["max_tokens"]
)
llm.chat(job["prompts"], params, use_tqdm=False)
started = time.perf_counter()
outputs = llm.chat(job["prompts"], params, use_tqdm=False)
seconds = time.perf_counter() - started
print(json.dumps({"tokens": sum(len(c.token_ids) for o in outputs for c in o.outputs), "seconds": seconds}))
"""
