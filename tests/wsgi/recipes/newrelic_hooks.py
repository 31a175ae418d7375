"""Hooks for New Relic, in a module that imports nothing else."""


def start_agent(worker):
    """For --post-fork: takes the place of newrelic-admin. NEW_RELIC_CONFIG_FILE names the configuration.

    The agent would connect in the background at the first request, and ignore requests until then. So this waits.
    """
    import newrelic.agent

    newrelic.agent.initialize()
    newrelic.agent.register_application(timeout=10)
