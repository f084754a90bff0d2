"""What to do about an endpoint that a guard has stopped, by the guard's own words. Pure."""

from latbench.model.request import Endpoint


def remedy(why: str, endpoint: Endpoint) -> str:
    """Half a sentence. `why` is what `EndpointGuard` says."""
    if why.startswith("credentials"):
        return _credentials(endpoint.api_key_env)
    if why.startswith("model"):
        return "check model and where base_url ends, see docs/providers.md"
    if why.startswith("payment"):
        return "check the account at the provider: what is paid for, and what is left of its quota"
    if "failed" in why:
        return "see what it said of them; --no-abort goes on all the same"
    return "see what it said"


def _credentials(variables: tuple[str, ...]) -> str:
    """The names are no secret; what stands in the variables is."""
    if not variables:
        return "api_key_env names no variable with a key: set it, or check the credentials that are used instead"
    which = "variable that api_key_env names" if len(variables) == 1 else "variables that api_key_env names"
    return f"check the {which}: {', '.join(variables)}"
