"""Which deployments a comparison measures, and with how many workers."""

import os
from dataclasses import dataclass, field
from pathlib import Path

from tuner.commands.options import CompareOptions
from tuner.deployments.lineup import NAMES
from tuner.deployments.own import OwnService, read_services
from tuner.errors import UsageError
from tuner.model.space import did_you_mean
from tuner.records.manifest import ComparedDeployments

_TUNED = ("triton-tuned", "triton-unbatched", "hybrid")
_MOST_WORKERS = 4
"""Of FastAPI where no number is given: each holds a copy of the model."""


@dataclass(frozen=True)
class Selection:
    """``names`` are out of ``lineup.NAMES``, ``services`` the user's own, by name."""

    options: CompareOptions
    names: tuple[str, ...] = NAMES
    services: dict[str, OwnService] = field(default_factory=dict)

    @classmethod
    def of(cls, options: CompareOptions) -> "Selection":
        """UsageError where there is no deployment of a name, or they do not go together."""
        names: list[str] = []
        services: dict[str, OwnService] = {}
        for name in options.deployments:
            if name.endswith((".yaml", ".yml")):
                services.update(read_services(Path(name)))
            elif name in NAMES:
                names.append(name)
            else:
                hint = did_you_mean(name, list(NAMES))
                raise UsageError(
                    f"there is no deployment {name!r}{hint}; services of yours are named in a YAML "
                    "file"
                )
        if "triton-tuned" in names and not options.search and options.tuned is None:
            raise UsageError(
                "triton-tuned needs a search: give --tuned RUN, or leave --no-search out"
            )
        clash = [name for name in services if name in NAMES]
        if clash:
            raise UsageError(
                f"a service of yours cannot be called {clash[0]!r}: that is one of tuner's"
            )
        return cls(options, tuple(names) or NAMES, services)

    @property
    def searches(self) -> bool:
        """Whether a configuration has to be searched for."""
        options = self.options
        needed = any(name in self.names for name in _TUNED)
        return needed and options.search and options.tuned is None

    @property
    def fastapi_workers(self) -> int:
        return self.options.fastapi_workers or min(_MOST_WORKERS, _cores())

    @property
    def gateway_workers(self) -> int:
        """One for two cores if not given: the other computes."""
        return self.options.gateway_workers or max(1, _cores() // 2)

    @property
    def recorded(self) -> ComparedDeployments:
        """What two comparisons must share to be the same."""
        options = self.options
        return ComparedDeployments(
            deployments=self.names,
            services={name: service.recorded() for name, service in self.services.items()},
            tuned=None if options.tuned is None else str(options.tuned),
            search_seconds=options.search_timeout if options.search else None,
            processing=options.processing,
            requests=None if options.requests is None else str(options.requests),
            fastapi_workers=self.fastapi_workers,
            gateway_workers=self.gateway_workers,
            rounds=options.rounds,
        )


def _cores() -> int:
    return len(os.sched_getaffinity(0))
