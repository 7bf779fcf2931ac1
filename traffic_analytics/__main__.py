"""Run `python -m traffic_analytics`, where the console script is not installed."""

from traffic_analytics.console import main

if __name__ == "__main__":
    main()
