"""Commands about a version that is to be live: beside the champion, and on the traffic that was kept."""
