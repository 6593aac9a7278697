"""What it costs a month, by list prices: prints the table of docs/cost.md. Put in your own prices, sizes and times.

    python3 docs/cost.py
"""
from math import ceil

# us-east-1, November 2026, in dollars.
LIST = 0.005 / 1000            # S3: a LIST of up to 1,000 objects; a PUT or COPY too
HEAD = 0.0004 / 1000           # S3: a HEAD or GET
EFS_READ = 0.03 / 1e9          # EFS, Elastic throughput: a byte read; each operation counts 4 KiB at least
VCPU_HOUR, GB_HOUR = 0.04048, 0.004445   # Fargate, x86
DATASYNC_GB = 0.0125           # DataSync, Basic: a GB copied

RUNS = 8640                    # every 5 minutes for 30 days
VCPU, MEMORY_GB = 0.5, 1.0     # the task
WATCH_MINUTES = 5              # how long an execution of DataSync is watched, where it has nothing to copy
STATS_A_SECOND = 64 / 0.001    # 64 at once, a millisecond each
CHANGED_GB = 30                # copied in the month, by whichever


def dollars(amount):
    return f"${amount:,.0f}"


def walk(files):
    """A look at each file."""
    return files * 4096 * EFS_READ


def fargate(minutes):
    return minutes / 60 * (VCPU * VCPU_HOUR + MEMORY_GB * GB_HOUR)


def state():
    """The lease and a report in S3, each run."""
    return 8 * LIST


def datasync(files):
    return RUNS * (walk(files) + ceil(files / 1000) * LIST + files * HEAD) + CHANGED_GB * DATASYNC_GB


def with_task(files):
    return datasync(files) + RUNS * (fargate(WATCH_MINUTES) + state())


def direct(files):
    minutes = max(1, files / STATS_A_SECOND / 60)
    return RUNS * (walk(files) + ceil(files / 1000) * LIST + fargate(minutes) + state()) + CHANGED_GB * 1e9 * EFS_READ


def table():
    lines = ["| files | plain DataSync | the task, DataSync first | the task, directly alone | … of which EFS for looking at files |", "|---|---|---|---|---|"]
    for files, name in [(10_000, "10 thousand"), (1_000_000, "1 million"), (10_000_000, "10 million")]:
        lines.append(f"| {name} | {dollars(datasync(files))} | {dollars(with_task(files))} | {dollars(direct(files))} | {dollars(RUNS * walk(files))} |")
    return "\n".join(lines)


if __name__ == "__main__":
    print(table())
