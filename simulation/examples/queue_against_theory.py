"""A queue against theory: ten servers at 90 % load, played exactly, beside Erlang C."""

import numpy as np

from simulation import serve_queue
from simulation.randomness import Purpose, exponentials
from simulation.theory import MMc


def main() -> None:
    """Play twenty days of 200,000 requests and print mean, tail and their standard errors."""
    load_rps, servers, n = 9.0, 10, 200_000
    theory = MMc(load_rps, 1.0, servers)
    days = []
    for seed in range(20):
        requests = np.arange(n)
        arrivals_s = np.cumsum(exponentials(seed, requests, 0, Purpose.TRAFFIC)) / load_rps
        services_s = exponentials(seed, requests, 0, Purpose.SERVICE)
        waits_s = serve_queue(arrivals_s, services_s, servers).waits_s[10_000:]  # the pool began empty
        days.append([(waits_s > 0.0).mean(), waits_s.mean(), np.quantile(waits_s, 0.95), np.quantile(waits_s, 0.99)])
    means, errors = np.mean(days, axis=0), np.std(days, axis=0, ddof=1) / np.sqrt(len(days))
    expected = [theory.wait_probability, theory.mean_wait_s, theory.wait_quantile_s(0.95), theory.wait_quantile_s(0.99)]
    print(f"{load_rps:g} requests/s on {servers} servers of 1 request/s, {len(days)} days of {n:,} requests")
    print(f"{'':18}{'theory':>10}{'observed':>10}{'std. error':>12}{'z':>7}")
    names = ["share that waits", "mean wait, s", "p95 of waits, s", "p99 of waits, s"]
    for name, value, mean, error in zip(names, expected, means, errors, strict=True):
        print(f"{name:18}{value:10.4f}{mean:10.4f}{error:12.4f}{(mean - value) / error:+7.2f}")


if __name__ == "__main__":
    main()
