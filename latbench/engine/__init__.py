"""The program that sends requests and stamps answers: uvloop and aiohttp, in a process of its own, without Locust."""
