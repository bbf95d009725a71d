"""Loads plugins one by one, keeps each failure with its reason, and guards every call of a plugin."""

from __future__ import annotations

import difflib
import importlib
import inspect
import logging
import operator
import os
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import pluggy

from pijobs.base import files
from pijobs.base.functions import place_of
from pijobs.base.redact import describe
from pijobs.errors import PluginError
from pijobs.jobs import Job
from pijobs.plugins import hookspecs
from pijobs.plugins.discovery import Plugin, find, prefixes
from pijobs.plugins.registration import faults, jobs_in
from pijobs.settings import CORE_SETTINGS, Setting, Settings

log = logging.getLogger(__name__)

#: Files whose frames do not show where a plugin failed.
_LEADING = re.compile(rf"^{re.escape(files.OURS)}|\bimportlib\b|[\\/]pluggy[\\/]|^<string>$")


class Plugins:
    """The plugins of one process.

    :param allowed: ``PI_JOB_QUEUE_PLUGINS``: names of plugins, or dotted modules; None for all installed ones.
    """

    def __init__(self, allowed: Sequence[str] | None = None) -> None:
        self._manager = pluggy.PluginManager(hookspecs.PROJECT)
        self._manager.add_hookspecs(hookspecs)
        self._modules: dict[str, Any] = {}
        self._callers: dict[tuple[str, str], Any] = {}
        self.found = list(find(allowed))
        # A plugin may implement hooks of a later plugin, so collect all hooks before reporting unknown ones.
        for step in (self._import, self._register, self._collect_settings):
            for plugin in self.loaded:
                self._guarded(plugin, step)

    # -- what is there -------------------------------------------------------------------------------------------

    @property
    def loaded(self) -> list[Plugin]:
        return [plugin for plugin in self.found if plugin.loaded]

    @property
    def failed(self) -> list[Plugin]:
        return [plugin for plugin in self.found if plugin.allowed and plugin.error is not None]

    @property
    def absent_prefixes(self) -> list[str]:
        """The prefixes of settings of installed plugins that are not loaded."""
        return [prefix for plugin in self.found if not plugin.loaded for prefix in prefixes(plugin)]

    def settings(self) -> list[Setting]:
        """The settings of all loaded plugins."""
        return [setting for plugin in self.loaded for setting in plugin.settings]

    def refuse_failed(self) -> None:
        """:raises PluginError: a plugin failed. A process that runs jobs must know all jobs."""
        if self.failed:
            raise PluginError("\n".join(f"plugin {plugin.name!r}: {plugin.error}" for plugin in self.failed))

    # -- registration --------------------------------------------------------------------------------------------

    def register_jobs(self, settings: Settings) -> list[Job]:
        """The jobs of all loaded plugins; a plugin that breaks a rule fails completely."""
        for plugin in self.loaded:
            self._guarded(plugin, lambda plugin: self._collect_jobs(plugin, settings))
        return [job for plugin in self.loaded for job in plugin.jobs]

    def _collect_jobs(self, plugin: Plugin, settings: Settings) -> None:
        others = [other for other in self.loaded if other is not plugin]
        owners = {job.name: (other.name, job) for other in others for job in other.jobs}
        jobs: list[Job] = []
        for job in self._given_jobs(plugin, settings):
            if not isinstance(job, Job):
                told = f'write @job("…") above it ({place_of(job)})' if callable(job) else "make them with @job"
                raise PluginError(f"register_jobs: expected jobs, found a {type(job).__name__}; {told}")
            if (twin := owners.get(job.name)) is not None:
                raise PluginError(
                    f"job {job.name!r} is registered by plugin {twin[0]!r} ({place_of(twin[1].function)}) "
                    f"and by plugin {plugin.name!r} ({place_of(job.function)}); give one of them another name"
                )
            owners[job.name] = (plugin.name, job)
            jobs.append(job)
        if found := [f"job {job.name!r}: {fault} ({place_of(job.function)})" for job in jobs for fault in faults(job)]:
            raise PluginError("\n".join(found))
        plugin.jobs = jobs

    def _given_jobs(self, plugin: Plugin, settings: Settings) -> Iterable[Any]:
        module = self._modules[plugin.name]
        if inspect.ismodule(module) and not hasattr(module, "register_jobs"):
            return jobs_in(module)
        return self._flat(plugin, "register_jobs", settings=settings)

    def _import(self, plugin: Plugin) -> None:
        """Import the plugin, and register its own hooks."""
        path, _, name = plugin.module.partition(":")
        _refuse_to_hide(path)
        try:
            module = importlib.import_module(path)
        except ModuleNotFoundError as error:
            if error.name is None or not f"{path}.".startswith(f"{error.name}."):
                raise
            raise PluginError(
                f"no module {error.name!r} on the path of this process, which works in {os.getcwd()}; "
                f"install the package of {path!r} into this environment (pip install), or name its folder in PYTHONPATH"
            ) from None
        if name:
            module = operator.attrgetter(name)(module)
        if inspect.isroutine(module):
            raise PluginError(
                f"expected an entry point that names a module, found the function {plugin.module!r} "
                f'({place_of(module)}); write {plugin.name} = "{path}" in pyproject.toml, and install it again'
            )
        self._modules[plugin.name] = module
        self._refuse_unknown_parameters(plugin)
        # Call it first: hooks must be known before their implementations are registered, or the wrong plugin is blamed.
        alone = pluggy.PluginManager(hookspecs.PROJECT)
        alone.add_hookspecs(hookspecs)
        alone.register(module, name=plugin.name)
        for namespaces in alone.hook.register_hookspecs():
            for namespace in namespaces or ():
                self._manager.add_hookspecs(namespace)

    def _register(self, plugin: Plugin) -> None:
        self._refuse_unknown_parameters(plugin)
        self._manager.register(self._modules[plugin.name], name=plugin.name)
        self._refuse_unknown_hooks(plugin)
        self._refuse_unmarked_hooks(plugin)

    def _hooks(self, plugin: Plugin) -> Iterator[tuple[str, Sequence[str], Any]]:
        """The functions of a plugin with names of hooks: name, the hook's parameters, function."""
        for name, caller in vars(self._manager.hook).items():
            function = getattr(self._modules[plugin.name], name, None)
            if (spec := getattr(caller, "spec", None)) is not None and inspect.isroutine(function):
                yield name, spec.argnames, function

    def _refuse_unknown_parameters(self, plugin: Plugin) -> None:
        for name, known, function in self._hooks(plugin):
            if hasattr(function, f"{hookspecs.PROJECT}_impl") and (
                unknown := [each for each in inspect.signature(function).parameters if each not in known]
            ):
                takes = ", ".join(map(repr, known)) or "no parameter"
                raise PluginError(
                    f"{name}: expected {takes}, found {unknown[0]!r} ({place_of(function)}); "
                    "a hook is given its parameters by their names"
                )

    def _refuse_unknown_hooks(self, plugin: Plugin) -> None:
        module = self._modules[plugin.name]
        callers = [caller for caller in self._manager.get_hookcallers(module) or () if not caller.has_spec()]
        unknown = [caller.name for caller in callers if not _optional(caller, plugin)]
        if unknown:
            known = [name for name, caller in vars(self._manager.hook).items() if getattr(caller, "spec", None)]
            close = difflib.get_close_matches(unknown[0], known, n=1)
            advice = f"did you mean {close[0]!r}?" if close else f"pijobs knows {', '.join(known)}"
            where = place_of(getattr(module, unknown[0], module))
            raise PluginError(f"hook {unknown[0]!r} is not known to pijobs ({where}); {advice}")

    def _refuse_unmarked_hooks(self, plugin: Plugin) -> None:
        """Refuse a function with the name of a hook that would never be called."""
        for name, _, function in self._hooks(plugin):
            if not any(hasattr(function, f"{hookspecs.PROJECT}_{marker}") for marker in ("impl", "spec")):
                raise PluginError(
                    f"{name} is not marked ({place_of(function)}): expected '@hookimpl' above it "
                    "(from pijobs import hookimpl)"
                )

    def _collect_settings(self, plugin: Plugin) -> None:
        owners = dict.fromkeys((setting.name for setting in CORE_SETTINGS), "pijobs itself")
        owners |= {setting.name: f"plugin {other.name!r}" for other in self.found for setting in other.settings}
        settings: list[Setting] = []
        for setting in self._flat(plugin, "register_settings"):
            if not isinstance(setting, Setting):
                raise PluginError(f"register_settings: expected Setting objects, found {type(setting).__name__}")
            if setting.name in owners:
                raise PluginError(f"setting {setting.name} of plugin {plugin.name!r} belongs to {owners[setting.name]}")
            if not setting.name.startswith(prefixes(plugin)):
                raise PluginError(f"setting {setting.name}: expected a name that begins with {prefixes(plugin)[0]}")
            owners[setting.name] = f"plugin {plugin.name!r}"
            settings.append(setting)
        plugin.settings = settings

    def _guarded(self, plugin: Plugin, step: Callable[[Plugin], None]) -> None:
        """Do one step of a plugin's registration. If it fails, the plugin is removed, with the reason."""
        try:
            step(plugin)
        except (Exception, SystemExit) as error:
            plugin.error = str(error) if isinstance(error, PluginError) else _reason(error)
            plugin.settings, plugin.jobs = [], []
            if self._manager.has_plugin(plugin.name):
                self._manager.unregister(name=plugin.name)

    # -- calls ---------------------------------------------------------------------------------------------------

    def call(self, hook: str, **arguments: Any) -> list[tuple[str, Any]]:
        """Call a hook of every loaded plugin. A plugin that raises is logged with its name and skipped.

        :returns: (plugin name, result), in the order of the plugins.
        """
        if not self.listen(hook):
            return []
        results = []
        for plugin in self.loaded:
            try:
                results += [(plugin.name, result) for result in self._call_one(plugin, hook, arguments)]
            except (Exception, SystemExit) as error:
                log.error("plugin %s failed in %s: %s", plugin.name, hook, describe(error))
        return results

    def listen(self, hook: str) -> bool:
        """Whether any plugin implements this hook. Check it before you create an event."""
        caller = getattr(self._manager.hook, hook, None)
        return caller is not None and bool(caller.get_hookimpls())

    def first(self, hook: str, **arguments: Any) -> Any:
        """The first result of a hook that is not None.

        :raises PluginError: a plugin raises, because there is no alternative.
        """
        for plugin in self.loaded:
            try:
                result = self._call_one(plugin, hook, arguments)
            except (Exception, SystemExit) as error:
                raise PluginError(f"plugin {plugin.name!r} failed in {hook}: {_reason(error)}") from error
            if result is not None:
                return result
        return None

    def _call_one(self, plugin: Plugin, hook: str, arguments: dict[str, Any]) -> Any:
        key = (hook, plugin.name)
        if key not in self._callers:
            others = [module for name, module in self._manager.list_name_plugin() if name != plugin.name]
            self._callers[key] = self._manager.subset_hook_caller(hook, others)
        return self._callers[key](**arguments)

    def _flat(self, plugin: Plugin, hook: str, **arguments: Any) -> Iterator[Any]:
        for result in self._call_one(plugin, hook, arguments):
            if not isinstance(result, Iterable):
                function = getattr(self._modules[plugin.name], hook)
                raise PluginError(
                    f"{hook}: expected a list, found a {type(result).__name__} ({place_of(function)}); "
                    "put it into brackets: return […]"
                )
            yield from result
        self._callers.clear()  # created before all plugins were registered


def call_hook(settings: Settings, hook: str, /, **arguments: Any) -> list[tuple[str, Any]]:
    """Call a hook of all plugins of an installation, such as one from ``register_hookspecs``.

    :returns: (plugin name, result) of each plugin that implements it. A plugin that raises is logged and skipped.
    """
    plugins = settings.resource(Plugins, lambda: Plugins(()))
    return plugins.call(hook, **arguments)


def _optional(caller: pluggy.HookCaller, plugin: Plugin) -> bool:
    """Whether the plugin implements the hook only for the case that another plugin declares it."""
    return all(one.optionalhook for one in caller.get_hookimpls() if one.plugin_name == plugin.name)


def _refuse_to_hide(path: str) -> None:
    """Refuse a module whose import would replace another object in its package, such as its ``JobQueue``."""
    package, _, name = path.rpartition(".")
    there = getattr(sys.modules.get(package), name, None)
    if path not in sys.modules and there is not None and not inspect.ismodule(there):
        raise PluginError(
            f"package {package!r} has the name {name!r} twice: a {type(there).__name__} in "
            f"{sys.modules[package].__file__}, and its module {path!r}, which would take that place; rename one of them"
        )


def _reason(error: BaseException) -> str:
    """The error, and the place in the plugin where it was raised."""
    trace, place = error.__traceback__, ""
    while trace is not None:
        code = trace.tb_frame.f_code
        if not _LEADING.search(code.co_filename):
            place = f" ({code.co_filename}:{trace.tb_lineno})"
        trace = trace.tb_next
    return describe(error) + place
