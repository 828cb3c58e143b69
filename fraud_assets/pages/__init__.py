"""What people look at: report, charts and plots; the only home of matplotlib and jinja2."""
