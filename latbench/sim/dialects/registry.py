"""The dialects of the simulated endpoint."""

from latbench.sim.dialects import Dialect
from latbench.sim.dialects.anthropic import Anthropic
from latbench.sim.dialects.azure_openai import AzureOpenAI
from latbench.sim.dialects.bedrock import Bedrock
from latbench.sim.dialects.cohere import Cohere
from latbench.sim.dialects.gemini import Gemini
from latbench.sim.dialects.mistral import Mistral
from latbench.sim.dialects.ollama import OllamaChat, OllamaGenerate
from latbench.sim.dialects.openai_chat import OpenAIChat
from latbench.sim.dialects.openai_completions import OpenAICompletions
from latbench.sim.dialects.openai_responses import OpenAIResponses

DIALECTS: tuple[Dialect, ...] = (
    OpenAIChat(),
    OpenAICompletions(),
    OpenAIResponses(),
    AzureOpenAI(),
    Anthropic(),
    Gemini(),
    Mistral(),
    Cohere(),
    OllamaChat(),
    OllamaGenerate(),
    Bedrock(),
)
