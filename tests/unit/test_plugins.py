"""Plugins are found, loaded one by one, and cannot disturb each other."""

from __future__ import annotations

import sys

import flask
import pytest

from pijobs import call_hook
from pijobs.errors import PluginError
from pijobs.factory import build
from pijobs.plugins.discovery import Plugin
from pijobs.plugins.hookspecs import InstanceEvent
from pijobs.plugins.loading import Plugins
from pijobs.settings import CORE_SETTINGS, Settings, validate

from .conftest import PLUGINS, AddModule, Install

EVENT = InstanceEvent(id="1", name="good.shout", group="good.shout", state="queued")


def find(plugins: Plugins, name: str) -> Plugin:
    (plugin,) = [plugin for plugin in plugins.found if plugin.name == name]
    return plugin


def load(*names: str) -> Plugins:
    """The plugins of that allow-list, with their jobs."""
    plugins = Plugins(names)
    plugins.register_jobs(validate({}, [*CORE_SETTINGS, *plugins.settings()]))
    return plugins


def failure(*names: str) -> str:
    plugins = load(*names)
    (failed,) = plugins.failed
    assert failed.name == names[-1] and [plugin.name for plugin in plugins.loaded] == list(names[:-1])
    assert failed.error is not None and failed.jobs == [] and failed.settings == []
    return failed.error


# -- finding ---------------------------------------------------------------------------------------------------------


def test_an_installed_plugin_is_found_with_its_distribution(install: Install, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(PLUGINS / "sample")
    install("pijobs-sample", "2.5", sample="pijobs_sample")
    sample = find(load("sample"), "sample")
    assert sample.loaded and (sample.distribution, sample.version) == ("pijobs-sample", "2.5")
    assert [job.name for job in sample.jobs] == ["sample.greet"]
    assert [setting.name for setting in sample.settings] == ["PI_JOB_QUEUE_SAMPLE_SALUTATION"]


def test_all_installed_plugins_are_loaded_without_an_allow_list(
    install: Install, broken_plugins: None, add_module: AddModule
) -> None:
    install("one-of-two", good="broken.good", other=add_module("an_empty_plugin", ""))
    loaded = [plugin.name for plugin in Plugins().loaded]
    assert {"good", "other"} <= set(loaded) and loaded == sorted(loaded)


def test_an_installed_plugin_that_is_not_allowed_is_told_and_not_imported(
    install: Install, add_module: AddModule
) -> None:
    install("pijobs-secret", secret=add_module("a_secret_plugin", ""))
    plugins = Plugins(["other.module"])
    assert find(plugins, "secret") in plugins.found and not find(plugins, "secret").loaded
    assert "secret" not in [plugin.name for plugin in plugins.failed]
    assert "a_secret_plugin" not in sys.modules
    assert "PI_JOB_QUEUE_SECRET_" in plugins.absent_prefixes


def test_an_empty_allow_list_allows_nothing(install: Install, broken_plugins: None) -> None:
    install("pijobs-good", good="broken.good")
    assert Plugins([]).loaded == []


def test_a_dotted_module_is_a_plugin_without_packaging(broken_plugins: None) -> None:
    plugins = load("broken.good")
    good = find(plugins, "broken.good")
    assert good.loaded and (good.distribution, good.version) == ("", "")
    assert [setting.name for setting in plugins.settings()] == ["PI_JOB_QUEUE_GOOD_VOLUME"]


def test_an_entry_point_may_name_an_object_in_a_module(install: Install, add_module: AddModule) -> None:
    source = "import pijobs\n\nclass Plugin:\n    @pijobs.hookimpl\n    def register_jobs(self, settings):\n"
    source += "        return [pijobs.Job('object.job', print)]\n\nplugin = Plugin()\n"
    install("pijobs-object", object=f"{add_module('an_object_plugin', source)}:plugin")
    assert [job.name for job in find(load("object"), "object").jobs] == ["object.job"]


def test_two_distributions_with_one_name_are_told(install: Install, add_module: AddModule) -> None:
    install("first-dist", twin=add_module("one_twin", ""))
    install("second-dist", twin=add_module("another_twin", ""))
    errors = [plugin.error for plugin in Plugins(["twin"]).found if plugin.name == "twin" and plugin.error]
    assert len(errors) == 1
    assert all(word in errors[0] for word in ("'first-dist'", "'second-dist'", "'twin'"))


# -- failing ---------------------------------------------------------------------------------------------------------


def test_a_failed_import_is_kept_with_reason_and_place(broken_plugins: None) -> None:
    reason = failure("broken.good", "broken.import_error")
    assert reason.startswith("ModuleNotFoundError: No module named 'a_module_that_nobody_installs'")
    assert f"{PLUGINS / 'broken' / 'import_error.py'}:3" in reason


def test_a_plugin_that_is_not_there_is_told(broken_plugins: None) -> None:
    reason = failure("broken.good", "no_such_package.plugin")
    assert reason.startswith("no module 'no_such_package' on the path of this process")


def test_a_syntax_error_is_told_with_its_line(broken_plugins: None, add_module: AddModule) -> None:
    reason = failure("broken.good", add_module("not_python", "x = 1\ny = = 2\n"))
    assert reason.startswith("SyntaxError: invalid syntax") and "not_python.py, line 2" in reason
    assert "plugins.py:" not in reason


def test_a_plugin_that_ends_the_process_does_not(broken_plugins: None) -> None:
    assert failure("broken.good", "broken.leaves").startswith("SystemExit: this plugin wants to be a program")


def test_an_unknown_hook_is_told_with_a_close_match(broken_plugins: None) -> None:
    reason = failure("broken.good", "broken.unknown_hook")
    assert reason.startswith("hook 'register_job' is not known to pijobs (")


def test_a_hook_with_a_parameter_of_its_own_is_refused(broken_plugins: None) -> None:
    assert "configuration" in failure("broken.good", "broken.wrong_parameter")


def test_a_duplicate_job_is_refused_with_both_plugins_named(broken_plugins: None) -> None:
    reason = failure("broken.good", "broken.duplicate_job")
    assert reason.startswith("job 'good.shout' is registered by plugin 'broken.good' (")


def test_of_a_plugin_with_one_bad_job_no_job_is_registered(broken_plugins: None) -> None:
    jobs = load("broken.good", "broken.duplicate_job").loaded[0].jobs
    assert [job.name for job in jobs] == ["good.shout"]


def test_an_invalid_job_name_is_refused(broken_plugins: None) -> None:
    reason = failure("broken.good", "broken.invalid_job_name")
    assert "job 'Shout': name must look like 'sms.send'" in reason and "invalid_job_name.py:10" in reason


def test_a_setting_named_like_a_core_setting_is_refused_with_both_named(broken_plugins: None) -> None:
    reason = failure("broken.good", "broken.core_setting")
    assert reason == "setting PI_JOB_QUEUE_URL of plugin 'broken.core_setting' belongs to pijobs itself"


def test_a_setting_without_the_plugin_s_name_is_refused(broken_plugins: None) -> None:
    reason = failure("broken.good", "broken.foreign_setting")
    assert reason.startswith("setting PI_JOB_QUEUE_OTHER_X: expected a name that begins with PI_JOB_QUEUE_BROKEN_")


def test_a_setting_of_another_plugin_is_refused_with_both_named(broken_plugins: None, add_module: AddModule) -> None:
    source = "from broken.good import register_settings\n"
    reason = failure("broken.good", add_module("good", source))
    assert reason == "setting PI_JOB_QUEUE_GOOD_VOLUME of plugin 'good' belongs to plugin 'broken.good'"


@pytest.mark.parametrize("returned", ["5", "[5]", "print"])
@pytest.mark.parametrize("hook", ["register_jobs(settings)", "register_settings()"])
def test_a_hook_that_returns_nonsense_is_refused(
    broken_plugins: None, add_module: AddModule, hook: str, returned: str
) -> None:
    source = f"from pijobs import hookimpl\n\n@hookimpl\ndef {hook}:\n    return {returned}\n"
    assert failure("broken.good", add_module("nonsense", source))


def test_every_failure_is_told_at_once(broken_plugins: None) -> None:
    plugins = load("broken.import_error", "broken.good", "broken.unknown_hook", "broken.duplicate_job")
    with pytest.raises(PluginError) as caught:
        plugins.refuse_failed()
    told = str(caught.value).splitlines()
    assert [line.split(":")[0] for line in told] == [
        "plugin 'broken.import_error'",
        "plugin 'broken.unknown_hook'",
        "plugin 'broken.duplicate_job'",
    ]


def test_without_a_failure_nothing_is_refused(broken_plugins: None) -> None:
    load("broken.good").refuse_failed()


# -- calling ---------------------------------------------------------------------------------------------------------


def test_a_failing_observer_is_logged_with_its_name_and_the_others_are_called(
    broken_plugins: None, add_module: AddModule, caplog: pytest.LogCaptureFixture
) -> None:
    source = "from pijobs import hookimpl\n\n@hookimpl\ndef job_enqueued(event):\n    return event.name\n"
    plugins = load(add_module("before", source), "broken.observer", add_module("zafter", source))
    assert plugins.call("job_enqueued", event=EVENT) == [("before", "good.shout"), ("zafter", "good.shout")]
    (line,) = [record.getMessage() for record in caplog.records]
    assert line.startswith("plugin broken.observer failed in job_enqueued: RuntimeError: good.shout disturbs me")
    assert "alice@" not in line


def test_an_observer_can_not_end_the_process(broken_plugins: None, caplog: pytest.LogCaptureFixture) -> None:
    assert load("broken.observer").call("job_started", event=EVENT) == []
    assert "plugin broken.observer failed in job_started: SystemExit" in caplog.text


def test_a_plugin_whose_jobs_are_refused_is_not_called(broken_plugins: None, add_module: AddModule) -> None:
    source = "from broken.duplicate_job import register_jobs\nfrom pijobs import hookimpl\n"
    source += "\n@hookimpl\ndef job_enqueued(event):\n    return 'called'\n"
    plugins = load("broken.good", add_module("refused", source))
    assert [plugin.name for plugin in plugins.failed] == ["refused"]
    assert plugins.call("job_enqueued", event=EVENT) == []


def test_a_hook_that_nobody_implements_gives_nothing(broken_plugins: None) -> None:
    assert load("broken.good").call("register_pages") == []


def test_the_first_host_app_wins(broken_plugins: None, add_module: AddModule, core_settings: Settings) -> None:
    source = "import flask\nfrom pijobs import hookimpl\n\n@hookimpl\ndef host_app(settings):\n    return {}\n"
    none = add_module("no_host", source.format("None"))
    first = add_module("first_host", source.format("flask.Flask('first')"))
    second = add_module("second_host", source.format("flask.Flask('second')"))
    app = load(none, first, second).first("host_app", settings=core_settings)
    assert isinstance(app, flask.Flask) and app.name == "first"
    assert load("broken.good").first("host_app", settings=core_settings) is None


def test_a_host_app_that_can_not_be_made_is_told(broken_plugins: None, core_settings: Settings) -> None:
    with pytest.raises(PluginError, match=r"plugin 'broken\.observer' failed in host_app: OSError: the database"):
        load("broken.observer").first("host_app", settings=core_settings)


# -- hooks of a plugin's own -------------------------------------------------------------------------------------------

OWN_HOOK = """
import sys
import pijobs

@pijobs.hookspec
def register_colours(shade): ...

@pijobs.hookimpl
def register_hookspecs():
    return [sys.modules[__name__]]
"""
GIVES_IT = """
import pijobs

@pijobs.hookimpl{options}
def register_colours({parameters}):
    return [shade + " red"]
"""


def test_a_plugin_may_make_a_hook_that_one_loaded_before_it_gives(add_module: AddModule) -> None:
    giver = add_module("a_giver", GIVES_IT.format(options="", parameters="shade"))
    installation = build({"PI_JOB_QUEUE_PLUGINS": [giver, add_module("z_maker", OWN_HOOK)]})
    assert installation.plugins.failed == []
    assert call_hook(installation.settings, "register_colours", shade="dark") == [("a_giver", ["dark red"])]


def test_a_hook_that_nobody_gives_has_no_answers(add_module: AddModule) -> None:
    installation = build({"PI_JOB_QUEUE_PLUGINS": [add_module("z_maker", OWN_HOOK)]})
    assert call_hook(installation.settings, "register_colours", shade="dark") == []


def test_a_hook_of_a_plugin_that_is_not_there_is_unknown_unless_it_is_optional(add_module: AddModule) -> None:
    strict = add_module("a_giver", GIVES_IT.format(options="", parameters="shade"))
    lenient = add_module("b_giver", GIVES_IT.format(options="(optionalhook=True)", parameters="shade"))
    plugins = Plugins([strict, lenient])
    assert "hook 'register_colours' is not known to pijobs" in str(find(plugins, "a_giver").error)
    assert find(plugins, "b_giver").loaded


def test_whoever_gives_a_hook_with_a_parameter_it_does_not_have_fails_and_not_its_maker(add_module: AddModule) -> None:
    giver = add_module("a_giver", GIVES_IT.format(options="", parameters="shade, hue"))
    plugins = Plugins([giver, add_module("z_maker", OWN_HOOK)])
    assert "hue" in str(find(plugins, "a_giver").error)
    assert find(plugins, "z_maker").loaded


def test_a_hook_of_the_core_can_not_be_made_again(add_module: AddModule) -> None:
    again = OWN_HOOK.replace("register_colours(shade)", "register_pages()")
    assert "register_pages" in str(find(Plugins([add_module("z_maker", again)]), "z_maker").error)
