"""All faults, by name, in the order of the table."""

from benchmarks.faults.around import AROUND
from benchmarks.faults.containers import CONTAINERS
from benchmarks.faults.damage import DAMAGE
from benchmarks.faults.disks import DISKS
from benchmarks.faults.moods import MOODS
from benchmarks.faults.processes import PROCESSES
from benchmarks.faults.signals import SIGNALS

FAULTS = {
    each.name: each
    for each in (*PROCESSES, *SIGNALS, *MOODS, *CONTAINERS, *DISKS, *DAMAGE, *AROUND)
}
