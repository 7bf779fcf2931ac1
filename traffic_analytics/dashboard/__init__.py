"""Serve a dashboard of all sites to the operator, and of one site to holders of a share link."""
