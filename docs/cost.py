"""The cost of a month by list prices: prints the table of docs/cost.md. Put in your own prices, sizes and times.

    python3 docs/cost.py
"""
from math import ceil

# us-east-1, November 2026, in dollars.
LIST = 0.005 / 1000            # S3: a LIST of up to 1,000 objects, a PUT or a COPY
HEAD = 0.0004 / 1000           # S3: a HEAD or GET
EFS_READ = 0.03 / 1e9          # EFS, Elastic throughput: one byte read; each operation counts as at least 4 KiB
VCPU_HOUR, GB_HOUR = 0.04048, 0.004445   # Fargate, x86
DATASYNC_GB = 0.0125           # DataSync, Basic: one GB copied

RUNS = 8640                    # every 5 minutes for 30 days
VCPU, MEMORY_GB = 0.5, 1.0     # the ECS task
WATCH_MINUTES = 5              # the run polls a DataSync execution for this long if there is nothing to copy
STATS_A_SECOND = 64 / 0.001    # 64 in parallel, one millisecond each
CHANGED_GB = 30                # copied in the month, by either


def dollars(amount):
    return f"${amount:,.0f}"


def walk(files):
    """One stat of each file."""
    return files * 4096 * EFS_READ


def fargate(minutes):
    return minutes / 60 * (VCPU * VCPU_HOUR + MEMORY_GB * GB_HOUR)


def state():
    """The lease and a report in S3, for one run."""
    return 8 * LIST


def datasync(files):
    return RUNS * (walk(files) + ceil(files / 1000) * LIST + files * HEAD) + CHANGED_GB * DATASYNC_GB


def comparison(files):
    """The walk and the listing of a run that has nothing to do."""
    return walk(files) + ceil(files / 1000) * LIST


def minutes(files):
    """The time of the walk."""
    return files / STATS_A_SECOND / 60


def with_task(files):
    """With --deletes guarded, the run compares after each execution."""
    return datasync(files) + RUNS * (comparison(files) + fargate(WATCH_MINUTES + minutes(files)) + state())


def direct(files):
    return RUNS * (comparison(files) + fargate(max(1, minutes(files))) + state()) + CHANGED_GB * 1e9 * EFS_READ


def table():
    lines = ["| files | plain DataSync | efs2s3, DataSync first | efs2s3, direct sync only | EFS stats (part of each) |", "|---|---|---|---|---|"]
    for files, name in [(10_000, "10 thousand"), (1_000_000, "1 million"), (10_000_000, "10 million")]:
        lines.append(f"| {name} | {dollars(datasync(files))} | {dollars(with_task(files))} | {dollars(direct(files))} | {dollars(RUNS * walk(files))} |")
    return "\n".join(lines)


if __name__ == "__main__":
    print(table())
