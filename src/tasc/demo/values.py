"""Slot values of the demo task: each rule is a pattern of `phrases.py`, its first choices are drawn most often.

All names of artists, songs, shows and people are put together from word lists: nothing here is a real title or a real person.
No value contains a comma, a colon or a brace, so that `slot: value` lists can be read back without escapes.
"""

VALUES: dict[str, str] = {
    # numbers and time
    "hour": "seven|six|eight|nine|ten|five|one|two|three|four|eleven|twelve",
    "minute": "thirty|fifteen|forty five|twenty|ten|fifty|forty|twenty five|thirty five|fifty five|five",
    "half_day": "am|pm|in the morning|in the evening|in the afternoon",
    "clock": "<hour> <half_day>|<hour> <minute> (am|pm)|<hour> o'clock|half past <hour>|<hour> <minute>|quarter (to|past) <hour>|noon|midnight",
    "part_of_day": "tonight|this evening|this afternoon|this morning|tomorrow morning|tomorrow night|tomorrow afternoon",
    "weekday": "monday|friday|saturday|sunday|tuesday|wednesday|thursday",
    "relative_day": "tomorrow|today|next <weekday>|this weekend|next week|this <weekday>|the day after tomorrow",
    "month": "june|may|july|march|april|october|september|december|january|february|august|november",
    "day_number": "first|second|third|fourth|fifth|tenth|twelfth|fifteenth|twentieth|thirtieth|eighth|ninth|twenty first|seventh|sixth",
    "calendar_day": "<weekday>|<month> <day_number>|the <day_number> of <month>|<weekday>",
    "small_number": "two|three|five|four|six|ten|eight|twelve",
    "tens": "twenty|fifty|thirty|forty|eighty|sixty|ten|seventy|ninety",
    "minutes_number": "ten|five|twenty|fifteen|thirty|forty five|twelve|three|eight|twenty five|forty|ninety|seven",
    "duration": "<minutes_number> minutes|an hour|<small_number> hours|half an hour|one hour and <minutes_number> minutes|<tens> seconds"
    "|an hour and a half|<small_number> and a half minutes",
    "short_duration": "<minutes_number> minute|<small_number> hour|<tens> second",
    "percent": "<tens> percent|one hundred percent|<tens> five percent|half|maximum|minimum",
    "degrees": "(twenty|nineteen|eighteen|twenty one|twenty two|sixteen|seventeen|twenty three) degrees|(sixty eight|seventy two|seventy|sixty five) degrees",
    "volume": "(three|five|seven|ten|two|six|eight|four)|<tens> percent|maximum|minimum",
    # the house
    "room": "kitchen|living room|bedroom|bathroom|hallway|dining room|garage|office|nursery|guest room|basement|attic|laundry room"
    "|study|playroom|porch|upstairs bathroom|master bedroom|conservatory|home gym",
    "lamp": "ceiling light|floor lamp|bedside lamp|desk lamp|reading light|night light|string lights|spotlights|chandelier|mirror light",
    "appliance": "fan|coffee machine|heater|air purifier|dishwasher|washing machine|humidifier|oven|kettle|dehumidifier|toaster|electric blanket"
    "|rice cooker|robot mower|aquarium pump|slow cooker|wine cooler",
    "screen": "tv|projector|tablet|laptop|big screen",
    "speaker": "speaker|stereo|soundbar|headphones|radio|sound system",
    "door": "front door|back door|garage door|patio door|side gate|cellar door|garden gate|balcony door",
    "color": "blue|red|warm white|green|purple|orange|pink|yellow|soft white|turquoise|deep blue|lavender|amber|cool white|magenta|teal|gold",
    "cleaning_mode": "quiet|turbo|mopping|deep clean|eco|edge|spot",
    "blind_position": "half way|a quarter|three quarters|<tens> percent",
    # people and places
    "first_name": "anna|ben|maria|tom|sara|leo|nina|omar|julia|peter|lucy|david|emma|ivan|chloe|ravi|hannah|marco|ada|felix|ines|kofi|yuki"
    "|greta|samir|olga|bruno|mei|theo|carla|oscar|wanda|hugo|lena|dario|fatima",
    "last_name": "miller|novak|lopez|schmidt|khan|rossi|larsen|tanaka|okafor|dubois|baker|silva|fischer|murphy|kowalski|ito|grant|weber"
    "|hansen|moreno|banks|costa|reid|young",
    "relative": "mom|dad|grandma|aunt <first_name>|uncle <first_name>|grandpa|doctor <last_name>",
    "person": "<first_name>|<relative>|<first_name> <last_name>",
    "city": "london|paris|berlin|madrid|rome|boston|chicago|tokyo|vienna|dublin|lisbon|oslo|seattle|denver|prague|athens|cairo|toronto"
    "|sydney|mumbai|helsinki|warsaw|austin|nairobi|lima|geneva|zagreb|portland|bristol|leeds|santa fe|new orleans|cape town|buenos aires|hong kong",
    "street": "oak|mill|church|park|station|river|garden|king|bridge|harbor|castle|meadow|cedar|market",
    "landmark": "the airport|work|the train station|the office|the gym|school|the library|the mall|the stadium|the hospital|the museum|the dentist",
    "destination": "<landmark>|<city>|<street> street|<small_number> <street> (road|avenue|lane)",
    "venue": "the <noun> (cafe|bar|bistro)|the office|city hall|the <street> street (hotel|school|church)|room <small_number>|the park|home",
    "transport": "car|bus|train|bike|subway|foot|ferry|tram",
    # music, shows, news
    "adjective": "silver|golden|broken|quiet|blue|hidden|electric|paper|midnight|velvet|wild|frozen|crimson|lonely|hollow|distant|burning|little|gentle"
    "|sleepless",
    "noun": "river|moon|garden|lantern|horses|mountain|letters|rain|harbor|mirror|summer|shadows|stars|fire|orchard|thunder|bicycle|window|ocean"
    "|sparrow|tiger|compass|clouds|bridges|canyon",
    "song": "<adjective> <noun>|<noun> of <noun>|<adjective> <adjective> <noun>|song for <first_name>|dancing with <noun>|under the <noun>"
    "|back to <city>|one more <noun>|waiting for <first_name>",
    "artist": "the <noun>|<first_name> <last_name>|<adjective> <noun>|<first_name> and the <noun>|dj <noun>|<last_name> quartet|the <adjective> <noun>",
    "genre": "jazz|rock|classical|pop|country|hip hop|folk|blues|reggae|electronic|ambient|soul|opera|swing|bossa nova|synth pop|heavy metal",
    "playlist": "workout|dinner party|road trip|focus|chill|morning coffee|party hits|sunday brunch|sleep|study beats|running|rainy day|<genre> favorites"
    "|<adjective> nights|best of <genre>",
    "show": "the <adjective> <noun>|<noun> and <noun>|doctor <last_name>|<city> nights|house of <noun>|the <last_name> files|planet <noun>",
    "episode": "episode <small_number>|season <small_number>|the first episode|the last episode|the next episode",
    "news_topic": "sports|politics|technology|business|science|local|football|climate|health|stock market|space|travel|election|film|chess",
    # kitchen and shopping
    "food": "milk|eggs|bread|butter|apples|bananas|rice|cheese|tomatoes|onions|chicken|pasta|olive oil|potatoes|coffee|sugar|yogurt|carrots"
    "|oat milk|peanut butter|orange juice|spinach|mushrooms|salmon|garlic|lemons|flour|honey|green tea|dark chocolate|black beans|sour cream"
    "|bell peppers|coconut milk|soy sauce|chickpeas|basil|ginger|tofu|frozen peas",
    "household": "toilet paper|dish soap|batteries|light bulbs|paper towels|laundry detergent|shampoo|toothpaste|trash bags|cat food|candles|sponges"
    "|dog food|baking paper|hand cream",
    "item": "<food>|<household>|<food>",
    "quantity": "a bag of|<small_number> (bottles|cans|packs|boxes) of|some|a lot of|a dozen|half a pound of|two kilos of|a jar of",
    "list_name": "shopping|grocery|weekend|party|camping|hardware|christmas|pharmacy|picnic",
    "dish": "<food> soup|pancakes|<food> curry|lasagna|<food> salad|chili|roast <food>|apple pie|risotto|<food> stew|tacos|banana bread|<food> pie"
    "|noodles with <food>|stuffed <food>|omelette",
    "diet": "vegan|vegetarian|gluten free|low carb|dairy free|spicy|quick|healthy",
    # calendar, reminders, messages
    "event": "meeting|dentist appointment|lunch|dinner|team call|haircut|birthday party|yoga class|piano lesson|job interview|parents evening|book club"
    "|football practice|concert|budget review|date night|school play|barbecue|eye test|car service|planning session|wedding|swimming lesson",
    "chore": "water the (plants|garden|roses)|take out the (trash|recycling)|feed the (cat|dog|fish)|call <person>|buy <item>|pay the (rent|bills|gas bill)"
    "|pick up (<person>|<item>|the kids|the parcel)|clean the <room>|book a table|charge the (car|laptop)|return the (books|parcel)|walk the dog"
    "|take my (medicine|vitamins)|renew (the|my) (passport|insurance|library card)|cook <dish>|email <person>|defrost the <food>",
    "timer_name": "pasta|eggs|laundry|pizza|workout|tea|homework|meditation|cookies|nap|rice|oven|break|<food>",
    "alarm_name": "work|school|gym|medicine|breakfast|flight|morning run|yoga|weekend|church|early shift",
    "message": "i will be late|i am on my way|dinner is ready|happy birthday|see you (tomorrow|soon|on <weekday>|at <hour>)|call me back|i love you"
    "|i am running <minutes_number> minutes late|we need <item>|the (train|bus|flight) is delayed|good luck (today|tomorrow|with the <event>)"
    "|are you free (tonight|on <weekday>)|let us meet at <venue>|thanks for the <noun>|please buy <item>|do not forget the <item>|i am at <landmark>"
    "|the <event> is cancelled|can you pick up <item>",
    "weather_kind": "rain|snow|be sunny|be windy|be cold|be hot|be foggy|storm|be cloudy|hail|freeze|be humid",
}
