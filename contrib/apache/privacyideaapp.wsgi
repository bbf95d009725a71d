# privacyIDEA with the routes of the job queue under /jobqueue. Instead of the file that privacyIDEA's documentation
# shows, whose first line imports create_app from privacyidea.app.
from pijobs_privacyidea.wsgi import create_app

application = create_app(config_name="production", config_file="/etc/privacyidea/pi.cfg")
