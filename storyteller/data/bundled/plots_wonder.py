"""Plots about giants, dragons, wishes and other things that are not seen every day."""

from __future__ import annotations

from storyteller.data.bundled.story_templates import TemplateFiller
from storyteller.data.bundled.word_banks import rows


def lonely_monster(t: TemplateFiller) -> None:
    """Everyone fears somebody big, until one child, or one need, comes along."""
    t.child("h")
    t.row("m", rows("""
            m; look; home; can
            giant; feet as big as boats; in a cave on the mountain; lifted the fallen tree off the road with one finger
            monster; purple fur and three eyes; in the old mill; held up the broken bridge with its back until everyone was across
            troll; a nose like a potato; under the stone bridge; pulled the sunken boat out of the river
            yeti; white fur down to the toes; high up in the snow; carried the doctor through the deep snow on its shoulders
            ogre; ears like two cabbages; in the dark wood; pushed the big rock away from the well
            """))  # fmt: skip
    t.creature("g", "{m}", "it")
    t.let(
        treat="[apple pie|a bun with raisins|a jar of jam|a piece of cake|pancakes|a ripe pear]",
        play="[checkers|hide and seek|marbles|cards|tic-tac-toe]",
    )
    t.begin(
        "[was not afraid of much|asked more questions than anyone|liked to see things for {h.himself}]",
        '"Don\'t go near the {m}!" people [said|warned]. But nobody had ever talked to it, and {h} thought that '
        "was [odd|strange|silly].",
        home="in a village at the foot of a mountain|in a little village between a wood and a river|in the last "
        "house of the village",
        trait="curious|brave|clever|kind|bright|bold",
    )
    t.go_on(
        "Near {h.his} village lived a {m} with {m.look}. It lived {m.home}, and everyone [was afraid of it|kept "
        "away from it|locked the door at night].",
        "{^m.home}, not far away, lived a {m}. It had {m.look}, and nobody went there.",
    )
    t.say(
        'At night [they|the villagers|the people] heard it. "[Hoo-oo|Oooh|Oo-hoo]," it went. "It is '
        '[hungry|looking for food]," said the baker. "It is [angry|in a rage]," said the smith. {h} '
        '[listened|lay awake and listened|put {h.his} ear to the window]. "I think it is crying," {h.he} said. '
        "The next morning {h} put {treat} in a basket and went to see.",
        "{@day}, {h}'s ball rolled away, bounced, and rolled right to the place where the {m} lived. {h} "
        '[swallowed hard|took a deep breath]. {@heart} "Excuse me," {h.he} said. "May I have my ball back? You '
        'can have my lunch for it."',
    )
    t.say(
        'The {m} looked out. "Are you not running away?" it asked. Its voice was like [thunder|a cellar door|a '
        'drum|falling rocks], but there was a [tear|big tear] on its [nose|cheek|chin]. "Should I?" asked {h}. '
        '"Everybody does," said {g}. "I have been alone for [a hundred|fifty|two hundred|ninety-nine] years."',
        "[A big|A huge|An enormous] hand came out, and it was [shaking|trembling]. \"[Please don't throw|Don't "
        'throw any|You will not throw] stones[|, will you]," said {g}. "I have no stones," said {h}. "I have '
        'something to eat." {^g} [sniffed|swallowed|blinked]. "Nobody ever [brought|gave] me anything[| '
        'before]," it said, and it began to [sob|cry|weep] so [hard|loudly] that [the leaves fell off the '
        "trees|the birds flew up|a small stream ran down the path].",
    )
    t.aside(
        "So {h} stayed. They played {play}, and {g} lost and laughed.",
        "They shared the food, half and half, though one half was gone in a blink.",
        "{h} taught {g} to play {play}. <It was not very good at it.>",
    )
    t.say(
        "But when {h} told the others, they did not believe it. Then came [the night of the great storm|a terrible "
        "storm|a night of wind and rain]. In the morning there was [trouble|great trouble|a lot of damage], and "
        '[nobody was strong enough to help|not even the smith could help|all the men together were too weak]. "I '
        'know who is," said {h}. {h.he} ran off, and came back with {g}. {^g} {m.can}.',
        '"Stay away from it!" said the people. A [week|month|few days] later a [wild|great|terrible] storm came. '
        '"Who can help us now?" [they cried|cried the baker|said the miller]. The ground began to '
        "[shake|tremble], step by step. It was {g}! Without a word {g} {m.can}.",
    )
    t.say(
        "[There was a long silence|For a while it was very still|Nobody spoke]. Then the baker stepped forward and "
        'held out [a warm loaf|a tray of buns]. "Welcome," he said. That [night|evening] there was no crying on '
        "the wind, only [somebody big, humming|a deep, happy humming|a big, happy snore].",
        "The people took off their hats. They had a [feast|great feast|party], and {g} sat in the middle with a "
        '[barrel|bucket|bathtub] for a cup. "Now I have more than one friend," it told {h}, "but you were the '
        'first."',
        '"We were wrong," [they said|said the people|the baker said]. Since that day the children [slide down '
        "the back of the {m}|ride on its shoulders], and the {m} has learned every song in the village.",
    )


def three_wishes(t: TemplateFiller) -> None:
    """A magic thing grants wishes; a foolish one, one to undo it, and a good one."""
    t.child("h")
    t.row("w", rows("""
            who; how; place
            fish; golden; in {h.his} net
            frog; silver; at the bottom of the well
            bird; blue; in a thorn bush
            beetle; shiny green; in a spider's web
            mouse; snow-white; in a bucket
            """))  # fmt: skip
    t.creature("m", "{w.who}", "it")
    t.row("s", rows("""
            wish; comes; undo
            that everything I touch turns to cake; The chair turned to cake, the door turned to cake, and when {h} stroked the cat, it was cake too, with whiskers of sugar; that everything is what it was before
            to be as tall as a tree; {h} grew and grew, until {h.his} head was in the clouds, and nobody could hear {h.him}; to be small again
            that it never gets dark; The sun stayed in the sky. The hens did not sleep, the flowers drooped, and everyone was tired and cross; that the night comes back
            to have a hundred puppies; A hundred puppies came barking down the road, chewed a hundred shoes, and made a hundred puddles; that each puppy finds a home of its own
            that nobody can tell me what to do; Suddenly nobody said anything to {h} at all. Nobody said good morning, and nobody told {h.him} a story; that they all talk to me again
            for so many toys that I can't count them; Toys rained from the sky, filled the house to the roof, and blocked the door, so that {h} could not get out; that the toys go to all the children in the land
            to be able to fly; {h} flew up like a kite, but {h.he} did not know how to stop, and the birds scolded {h.him}; to stand on the ground again
            """))  # fmt: skip
    t.begin(
        "[liked to walk by the river|often played alone behind the house|wished for a lot of things]",
        home="in a hut by the river|in a small house near the woods|in an old mill|in a cottage with a well",
    )
    t.say(
        '{@day}, {h} found a {w.how} {w.who} that was caught {w.place}. "[Let me go|Help me out|Set me free]," '
        'it said, "and I will give you three wishes." {h} opened {h.his} mouth in surprise. Then {h.he} set it '
        "free, very carefully.",
        "A {w.how} {w.who} was stuck {w.place}, and it could speak! {h} helped it out and [dried it with {h.his} "
        'sleeve|gave it some water]. "You are kind," said {m}. "For that you may wish three times. But think '
        'well."',
    )
    t.say(
        '{h} did not think well. "I wish {s.wish}," {h.he} said at once. Whoosh! {s.comes}.',
        '"Three wishes!" {@cried} {h}, and {h.he} danced about. "First, I wish {s.wish}." There was a '
        "[sound|ring] like a [small|silver|glass] bell. {s.comes}.",
    )
    t.aside(
        "At first it was funny. But soon {h} did not like it any more.",
        '"{@ohno}!" said {h}. That was not what {h.he} had meant.',
        "{h} laughed for a minute. Then {h.he} felt {@sad}.",
    )
    t.say(
        '{h.he} ran to find {m}. "Please," {h.he} said, "I wish {s.undo}." [The bell rang again|There was a '
        'flash|There was a soft puff], and it was so. "You have one wish left," said {m}.',
        '"I wish {s.undo}!" {h} {@cried}. And so it was. Now there was only one wish left, and {h} sat down on a '
        "stone to think, properly this time.",
    )
    end = t.one_of(("mother", "free", "keep"))
    if end == "mother":
        t.say(
            "{h} thought of gold and ponies. Then {h.he} heard {h.his} {mom} cough. She had been coughing all "
            'winter. "I wish that my {mom} is well again," {h} said, without waiting any longer.'
        )
        t.say(
            'When {h.he} came home, {h.his} {mom} was dancing around the kitchen with the broom. "I feel so '
            'well today!" she said. {h} never told her why.',
            ""
            "In "
            "the "
            "window "
            "stood "
            "{h.his} "
            "{mom}, "
            "with "
            "red "
            "cheeks, "
            "and "
            "she "
            "was "
            "singing. "
            "{h} "
            "needed "
            "no "
            "more "
            "wishes "
            "after "
            "that.",
        )
    elif end == "free":
        t.say(
            '"And you?" {h.he} asked {m}. "Can\'t you wish for something?" {^m} shook its head. "I can only '
            '[give|give them]," it said [sadly|softly]. "I have never had a wish of my own." {h} {@smiled}. '
            '"Then I wish that you get my last one."'
        )
        t.say(
            '{^m} was silent for a long time. "I wish for a friend," it said at last. They looked at each '
            "other and laughed, because that wish had come true already.",
            ""
            "A "
            "light "
            "went "
            "over "
            "the "
            "{w.who}, "
            "and "
            "it "
            "danced "
            "in "
            "a "
            "circle. "
            '"Now '
            "I "
            "am "
            'free!" '
            "it "
            "said. "
            "Every "
            "evening "
            "it "
            "came "
            "to "
            "visit "
            "{h}, "
            "not "
            "because "
            "it "
            "had "
            "to, "
            "but "
            "because "
            "it "
            "liked "
            "to.",
        )
    else:
        t.say(
            '{h} thought until the sun went down. "I will keep it," {h.he} said, "for a day when somebody '
            'really needs it." {^m} nodded. "Now you are wise," it said, and it was gone.'
        )
        t.say(
            "Years passed. {h} had many bad days, but whenever {h.he} wanted to use the wish, {h.he} found that "
            "{h.he} could help {h.himself}. And so {h} has it still.",
            ""
            "The "
            "next "
            "summer "
            "it "
            "did "
            "not "
            "rain, "
            "and "
            "the "
            "fields "
            "were "
            "dry "
            "and "
            "brown. "
            "Then "
            "{h} "
            "used "
            "the "
            "wish. "
            "It "
            "rained "
            "for "
            "three "
            "days, "
            "softly, "
            "and "
            "nobody "
            "but "
            "{h} "
            "knew "
            "where "
            "it "
            "came "
            "from.",
        )


def stone_soup(t: TemplateFiller) -> None:
    """A hungry stranger makes soup from a stone, with a little help."""
    people = t.chance(0.5)
    if people:
        t.add(
            "h",
            *t.one_of(
                (
                    ("Old Jan", "traveler", "he"),
                    ("Marco", "traveler", "he"),
                    ("Old Nell", "traveler", "she"),
                    ("Tinker Tom", "traveler", "he"),
                    ("Rosalind", "traveler", "she"),
                    ("Peddler Kate", "traveler", "she"),
                )
            ),
        )
        t.let(place="village", who="people", a="the farmer", b="the old widow", c="the baker's boy", d="the miller")
    else:
        t.animal("h", rows("""
            kind; look; home; food; went
            wolf; gray whiskers; nowhere in particular; soup; walked
            fox; a patched coat; on the road; soup; walked
            hare; long, tired ears; on the road; soup; walked
            badger; a striped face; on the road; soup; walked
            """))  # fmt: skip
        t.let(
            place="[wood|meadow|farmyard]", who="animals", a="the goat", b="the old hen", c="the piglet", d="the duck"
        )
    t.let(thing="[smooth, round stone|gray stone|white pebble|rusty nail|old wooden spoon|big iron button]")
    t.slots["item"] = t.slots["thing"].split()[-1]
    t.slots["trait"] = t.fill("[hungry|tired|thin|cheerful|clever]")
    t.say(
        "Once upon a time, a {trait} {h.kind} named {h} came to a {place}. {h.he} had [walked for three days|come "
        "a long way], and in {h.his} bag there was nothing but a {thing}.",
        "It was a [cold|wet|dark|windy|frosty] evening when {h}, a {trait} {h.kind}, came down the road. {h.his} "
        "bag was empty, except for a {thing}.",
        "There once was a {h.kind} called {h}, who went from place to place with a big pot and a {thing}. One "
        "windy day {h.he} came to a {place}.",
        "{h} was a {trait} {h.kind} who owned two things in the world, an old pot and a {thing}.",
    )
    t.say(
        '{h} knocked at the first door. "Do you have a bite to eat?" {h.he} asked. "[We have nothing|There is '
        'nothing here|Go away]," came the answer. It was the same at the [second|next] door, and at [the '
        "third|every other]. The {who} peeked out from behind their curtains."
        if people
        else '"Do you have a bite to eat?" {h} asked. "We have nothing," said the {who}. It was the same at '
        "every nest and every den. They were afraid to share, because winter was near.",
        'Nobody there wanted to share. "The harvest was [bad|poor]," said one. "My cupboard is [bare|empty]," '
        "said another. It was not [quite|really] true, but they were afraid of strangers.",
    )
    t.say(
        '"Then I will cook for you," said {h}. {h.he} made a fire, filled a pot with water, and dropped in the '
        '{item}. The {who} came closer. "What is [that|it going to be|this for]?" asked {a}. "{^item} soup," '
        'said {h} and stirred. "The best [there is|in the world|you ever had]."',
        "{h} {@smiled} and lit a fire in the middle of the {place}. Into the pot went water from the stream, and "
        'into the water went the {item}. "{^item} soup," {h.he} hummed. {^a} [could not help coming nearer to '
        "look|came to see|peeped into the pot].",
    )
    t.say(
        '{h} tasted it. "[Very good|Not bad|Delicious]! But with [a carrot|a few carrots] it would be even '
        'better." "I may have a carrot," said {a} [slowly|shyly] and [ran|went] to fetch it. "And some '
        '[onions|potatoes]?" asked {h}. "I have some [in the cellar|at home|under my bed]," said {b}. Then {c} '
        "brought [beans|peas|corn], and {d} brought [salt|butter|parsley].",
        '"Mmm," said {h}. "Last [time|week|year] I had [turnips|cabbage] in it, and the king himself asked for '
        'more." {^a} happened to have [one|some|just that]. Then {b} remembered [some potatoes|a bag of beans]. '
        "{^c} came with [mushrooms|an onion], and {d} with a handful of [herbs|barley].",
    )
    t.aside(
        "The soup [bubbled and steamed|bubbled|simmered], and it [smelled wonderful|smelled better and "
        "better|filled the air with its smell].",
        "{h} stirred [and stirred|and tasted|and hummed]. [Steam rose up to the stars|The steam was thick and "
        "warm|Everyone's mouth began to water].",
    )
    t.say(
        'They all sat [around|by] the fire and ate[| until they were full]. "And all that from one {item}!" said '
        "{b}. {h} only {@smiled}. There was [music|singing|dancing] until [late|midnight|the fire burned low], and "
        "for the first time {a} and {d} [sang|danced] together.",
        'Everyone got a [full|big] bowl, and then [a second one|another]. "Will you sell us the {item}?" [they '
        'asked|asked {b}|asked {d}]. "I will give it to you," said {h}. "But [remember|mind], it only works if '
        'everybody [brings|gives] something."',
        '"What a clever {item}," said {c} with a full mouth. "It is not the {item} that is clever," {b} said '
        "softly and moved over to make room for {h}.",
    )
    t.go_on(
        "In the [morning|gray morning] {h} went on {h.his} way with a [full bag|full bag and a warm coat|bag of "
        "bread].",
        "",
        "And {h} did not have to sleep [outside|in the cold|under a hedge] that night.",
    )


def dry_well(t: TemplateFiller) -> None:
    """The bucket, the rope and the well; or a place without water; nobody alone can do it."""
    t.animal("h", rows("""
            kind; look; home; food; went; part
            elephant; big ears; near a dusty plain; leaves; marched; carried the earth away
            meerkat; bright black eyes; in a sandy hill; bugs; ran; dug with quick paws
            goat; a white beard; on a dry hill; thistles; climbed; kicked the hard stones loose
            rabbit; long ears; in a dusty field; clover; hopped; dug with both front feet
            donkey; soft gray ears; on a dry farm; hay; trotted; pulled the stones out with a rope
            """))  # fmt: skip
    t.animal("f", rows("""
            kind; look; home; food; went; part
            crow; black feathers; in a dead tree; seeds; flew; flew up with the small stones
            mole; velvet fur; under the ground; worms; dug; showed them where the earth was soft
            monkey; a long tail; in a tree; fruit; swung; held the rope with its tail
            ostrich; long legs; on the plain; grass; ran; scratched with its big feet
            turtle; a hard shell; in the sand; leaves; crept; used its shell as a bowl
            """))  # fmt: skip
    t.begin(
        "[worried about the water|was always thirsty that year|remembered the days when there was rain]",
        "There had been no rain for a very long time. {h}, a {h.kind}, looked at the sky every morning.",
        trait="kind|clever|good|thoughtful|brave|patient",
    )
    t.say(
        "[The stream was dry|The stream had dried up|There was only dust in the stream|Not a drop ran in the "
        "stream] that [summer|year|month|season]. The last water hole was [no bigger|not much bigger|hardly "
        "bigger] than a [plate|hat|pan|dish|nest]. Every day the animals [argued|quarreled|fought|shouted] [about "
        'it|over it|at its edge]. "I was here first!" "I am bigger!" "I have children!" They '
        "[pushed|shoved|bumped] each other so [much|hard|long] that the water [turned to|was nothing but|became] "
        "mud.",
        "[One morning|One day|Then, one hot morning,|At the end of summer] the old well was [empty|dry|quite "
        "empty]. The animals [stood around it|came from all sides|leaned over the edge] and looked [down|in|into "
        'the dark hole]. "This is your fault," said [one|a goose|a sheep|a pig]. "No, you [drank too much|took '
        'big gulps|washed in it]," said [another|a hen|a cow]. Soon everyone was {@angry}, and everyone was still '
        "thirsty.",
    )
    t.say(
        "{h} began to dig. {h.he} {h.part}. The others laughed. \"You can't do that [alone|by yourself|all "
        'alone]," [they said|said one|said the others]. "I know," said {h}, "but I can begin." {h} worked '
        "[all day|until dark|all afternoon] and found only [dry sand|sand|stones and sand]. That evening {f} the "
        '{f.kind} came. "May I help?" {f.he} asked.',
        '"My grandmother said that there is water deep under the [fig tree|red rock]," {h} told them. Nobody '
        'listened, except {f}, a {f.kind}. "Two can dig deeper than one," said {f}. [They started that very '
        "evening|The two of them began the same night|They set to work at once|So {h} and {f} began].",
    )
    t.say(
        "{h} {h.part}, and {f} {f.part}. On the second day a [zebra|pig] joined them, and on the third day a whole "
        "family of [mice|monkeys|geese]. The hole got deeper [and deeper|every hour|day by day]. On the fifth day "
        '{h} stopped. "The sand is cool," {h.he} said. "The sand is wet!"',
        "It was [hard|heavy|slow|dusty] work [under the hot sun|in the heat|in all that heat]. [Their tongues were "
        "dry|Their backs hurt|They had dust in their eyes], and [twice|once|three times] the sides fell in. But "
        "[one after another|two by two|slowly] the others stopped [arguing|quarreling] and came [to help|to "
        "dig|along]. The [big|strong] ones [pushed|dug], the [small|quick] ones [carried|swept], and even the "
        "babies [sang to keep them going|carried one pebble each|clapped and sang]. Then there was a "
        "[gurgle|bubbling sound|soft splash], and a [dark|wet|damp] spot, and it grew!",
    )
    t.go_on(
        "[Clear, cold|Clear and cold|Fresh, cool|Sparkling] water [rose up|came up|bubbled up] and filled the hole.",
        "Up came the water, first brown, then clear, and so cold that [it made their teeth ache|they gasped|they "
        "shivered with joy].",
    )
    t.say(
        '"The smallest drink first," said {h}, and this time nobody pushed.',
        'They made a rule, and they scratched it into a stone. "Everybody digs, and everybody drinks."',
        "That night they all slept around the new well, big ones and small ones side by side, and the moon came "
        "down to drink too.",
        "When the rain came back at last, they did not need the well any more. But they still met there every "
        "evening, just to talk.",
    )


def dragon_fire(t: TemplateFiller) -> None:
    """A dragon has lost its fire, or has the hiccups, or has a cold; children help."""
    t.child("h")
    gender = "it"
    t.add(
        "d",
        t._name(("Ember", "Smoky", "Sizzle", "Blaze", "Cinder", "Puff", "Flicker", "Scorch", "Spark", "Ashes")),
        "dragon",
        gender,
    )
    t.let(
        color="[green|red|blue|golden|purple|orange|silver]",
        place="[behind the waterfall|on the mountain|in "
        "the ruins of the castle|at the end of the "
        "valley|under the old bridge]",
    )
    t.begin(
        "[knew a secret, and the secret was a dragon|had a friend who was a dragon|was the only one who knew about "
        "the dragon]",
        "Most people think that dragons are [scary|mean|wild]. {h} knew better, because {h.his} friend {d} was a "
        "dragon.",
        home="in a village at the foot of a mountain|in a stone house in a green valley|near an old castle|in a "
        "small house by a waterfall",
    )
    t.go_on(
        "The dragon was {color}, it lived {place}, and its name was {d}.",
        "It was a {color} dragon named {d}, and it lived {place}.",
    )
    what = t.one_of(("hiccups", "lost", "cold"))
    if what == "hiccups":
        t.say(
            '{@day}, {d} had the hiccups. "Hic!" A flame shot out and burned a [bush|fence post|thistle]. '
            '"Hic!" There went half of {h}\'s sandwich. "I can\'t stop," said {d}. "Hic! Soon I will burn down '
            'the [forest|village]!"',
        )
        t.say(
            '{h} fetched water, and {d} drank the whole [well|pond]. "Hic!" Steam came out of its ears. {h} told '
            'it to hold its breath. {d} [swelled up|got as round] like a [balloon|ball]. "Hic!" A tree caught '
            "fire, and they had to [beat|stamp] it out.",
            '"Stand on your head," said {h}. That made a hole in the ground. "Eat some sugar," said {h}. {d} '
            'ate [ten|six|twenty] bags. "Hic!" Now the whole place smelled of [candy|toffee|burned sugar].',
        )
        t.say(
            "Then {h} remembered what helped at home. {h.he} hid behind a [rock|tree|wall]. When {d} came by, {h} "
            'jumped out. "Boo!" The dragon was so frightened that it jumped on a [cloud|cliff]. They waited[| '
            "and waited]. There was no hic [at all|any more].",
        )
        t.say(
            '"You scared me," said {d}. "Me, a dragon!" {h} laughed until {h.he} fell over. "Hic!" said {h}.',
            '"{@thanks}," said {d}, "but please don\'t tell anyone that I was afraid of a {h.kind}." {h} '
            "promised, and {h.he} has kept the secret until today.",
        )
    elif what == "lost":
        t.say(
            '{@day}, {d} opened its mouth, and only a puff of smoke came out. "My fire is gone!" it said. "A '
            'dragon without fire is just a big lizard." A [tear|hot tear] ran down its [long|green|scaly] nose.',
            "One cold morning {d} tried to light a fire, but nothing came out. It [blew and blew|puffed and blew]. "
            '"[Pfff|Pff, pff|Fffh]," it went. Not even a [spark|little spark] came. "I am broken," said {d} in '
            "a small voice.",
        )
        t.say(
            "{h} wanted to help. {h.he} gave the dragon [red|hot] peppers. {d} only [sneezed|blinked]. {h.he} gave "
            "it [hot|strong] mustard. {d} only [coughed|hiccuped]. They asked the [oldest|wisest] owl in the "
            '[land|wood]. "Fire does not come from the mouth," said the owl. "It comes from the heart."',
        )
        t.say(
            "That night {h} lost {h.his} way in the snow. {h.he} called for help, but the wind was louder. {d} "
            'heard it anyway. It flew through the storm and found {h}, cold and stiff. "Please, please get '
            'warm," said the dragon, and something in its chest began to glow. Whoosh! There was the fire, bright '
            "and warm.",
            "On the way home {h} fell into the icy stream. {d} pulled {h.him} out. {h} was [shaking|shivering], "
            'and {h.his} [lips|fingers] were blue. "Oh, {h}!" {d} cried, and its heart jumped. Whoosh! A warm, '
            "golden flame came out, and in no time {h} was dry.",
        )
        t.say(
            '"You did it!" said {h}. "No," said {d}, "we did." And it made a tiny flame, just big enough to '
            "toast [two apples|some bread].",
            "Since then {d} has never lost its fire. Whenever the flame gets small, it only has to think of {h}.",
        )
    else:
        t.say(
            "{@day}, {d} had a cold. It lay in its bed of stones with a red nose, and each sneeze shook the "
            'ground. "I must fly to the [dragon ball|birthday of my grandmother] on Sunday," it said. "Achoo! '
            'But how, like this?"',
        )
        t.say(
            "{h} told the people in the village. At first they were {@afraid}. But a sick dragon is a [sad|sorry] "
            "thing. The tailor sewed a handkerchief out of [six|ten] bed sheets. The cook made a [kettle|tub] full "
            "of chicken soup. The children knitted a scarf, and it was as long as the street.",
        )
        t.say(
            "They [carried|brought|dragged] it all up to {d}. The dragon had never had visitors before. It drank "
            "the soup, and it blew its nose. What a [sound|noise|blast]! <Windows broke in three towns.> Then it "
            "put on the scarf and slept, and {h} sat beside it and read to it.",
        )
        t.say(
            "By Sunday {d} was well. It flew off in a great circle over the village, with the scarf streaming "
            "behind it. That winter nobody had to light a stove, because {d} came by each morning and warmed all "
            "the chimneys.",
            'On Sunday morning the dragon shook its wings. "Do you want to come too?" it asked. And so {h} was '
            "the first {h.kind} ever to dance with dragons.",
        )


def fallen_star(t: TemplateFiller) -> None:
    """A little star falls down, or the moon is missed, and must get home."""
    t.child("h")
    t.let(
        spot="[in the pond|in the tall grass|on the roof of the shed|in the sandbox|in the pumpkin patch|in the "
        "old boat]"
    )
    t.begin(
        "[loved to look at the stars|counted the stars before going to bed|said good night to the stars every evening]",
        '"Good night, stars," said {h}, a {@little} {h.kind} in {@color} pajamas. {h.he} said it every evening.',
    )
    t.say(
        "One clear night, {h} saw a light fall down, down, down, behind the house. {h.he} put on {h.his} "
        "[boots|coat|slippers] and ran [outside|out into the dark|down the stairs]. There, {spot}, lay a little "
        "star. It was [no bigger than|as small as|as round as] [an apple|an egg|a plum], and it was "
        "[crying|sobbing|sniffing].",
        "Plink! Something fell {spot}. {h} took a lamp and went to look, but {h.he} did not need the lamp. A tiny "
        'star was [shining|lying|glowing] there. "I leaned out too far," [said the star|it said|it told {h}]. '
        '"Now I can\'t get back."',
    )
    t.aside(
        "It was warm in {h.his} hands, like [a fresh egg|bread from the oven].",
        '"Do not cry," said {h}. "I will help you get home."',
        "When it sobbed, its light went on and off.",
    )
    t.say(
        "First {h} climbed on the [roof|shed|wall] and threw the star [as high as {h.he} could|up with all {h.his} "
        "might]. It came down again, plop, in the [rain barrel|bushes|flower bed]. Then {h.he} tied it to a "
        "{@color} balloon. The balloon went up to the [chimney|gutter|top of the tree], and bang, it burst. "
        '"[Ouch|Oof|Ow]," said the star.',
        "{h} tied the star to {h.his} {@color} kite, but there was [no|not enough] wind. {h.he} put it in {h.his} "
        "slingshot, but the star got [dizzy|scared|sick]. [An owl|A bat] tried to carry it, but it was too "
        "[bright|hot|slippery]. The star's light was getting [weak|dim].",
    )
    t.row("a", rows("""
            why; act; rise
            I am too heavy; "What makes you heavy?" asked {h}. "All the wishes people told me," said the star. "I keep them inside." "Then tell them to me," said {h}, "and I will keep them for you." The star whispered wishes half the night, and with every wish it grew lighter; Slowly, like a soap bubble, it floated up out of {h.his} hands
            I am too sad to rise; {h} thought about what made {h.him} feel light. Then {h.he} sang the song that {h.his} {mom} always sang to {h.him}. The star began to hum along. {h} told it a joke, and another one. The star giggled, and it rose a little with each giggle; With one last laugh the star shot up like a rocket
            I have forgotten the way; "I know it," said {h}. {h.he} lay down on {h.his} back beside the star, and they looked up together. "There is the Great Bear, and there is the Swan. And there, next to the Swan, is a hole in the dark." "That is my place!" cried the star; It took a run along the garden wall and jumped, straight to its place
            I need a light to guide me; {h} woke up {h.his} {mom} and {dad}, and they woke up the neighbors. One after the other, all the windows in the street went dark, so that the sky was clear and near. And high above, the mother star began to blink, on and off, on and off; Along that thread of light the little star climbed home
            """))  # fmt: skip
    t.say(
        '"I know what it is. {^a.why}," said the star at last. {a.act}.',
        '"I think {a.why}," the star said softly. {a.act}.',
    )
    t.say(
        "{a.rise}. {h} looked up until {h.his} neck hurt. In the place where there had been a hole, a "
        "[small|new|bright] light [winked|blinked|smiled] at {h.him}.",
        '{a.rise}. "Good night!" called {h}, very softly. And [far away|high above|up there], something '
        "[twinkled|blinked|glittered] [twice|back|three times].",
    )
    t.go_on(
        "",
        "On {h.his} hands there was a bit of silver dust, and it did not wash off for a week.",
        "Now {h} says good night to all the stars, but to one of them {h.he} says it twice.",
    )


def little_machine(t: TemplateFiller) -> None:
    """A small truck, boat or engine does what the big ones cannot."""
    t.row("k", rows("""
            kind; big; home; task; need; sound; did
            truck; the big trucks; in a garage by the road; carry a load of [sand|bricks]; The bridge to the village was weak after the flood, and the big trucks were too heavy for it. But the people on the other side had no [bread|milk]; Brum, brum; rolled over the bridge, inch by inch, with its wheels close together
            tugboat; the great ships; in a harbor full of ships; pull the [barges|logs]; Thick fog came in. A great white ship had lost its way, and it was drifting toward the rocks; Toot, toot; felt its way between the rocks, took the rope, and pulled until its engine glowed
            engine; the fast trains; in a shed behind the station; push the coal cars; Snow covered the tracks, and the fast trains were stuck. In the last car there were [forty children|the children from the mountain school]; Chuff, chuff; put its head down, pushed through the snow, and brought the cars home one by one
            tractor; the new machines; in a barn with a hole in the roof; pull the hay cart; After a week of rain the fields were nothing but mud, and the new machines sank in up to their axles. The [ambulance|doctor's car] was stuck too; Putt, putt; went slowly through the mud on its thin old wheels and pulled them all out
            plane; the silver jets; in a shed at the edge of the airport; carry the mail; On a small island somebody was sick and needed medicine. The jets could not land there, because the island was no longer than a football field; Rrrr, rrrr; flew low over the waves and set down on the beach like a gull
            """))  # fmt: skip
    t.add(
        "h",
        t._name(
            (
                "Benno",
                "Dash",
                "Rusty",
                "Pip",
                "Sparky",
                "Dot",
                "Toby",
                "Tilly",
                "Button",
                "Nugget",
                "Gus",
                "Bolt",
                "Peanut",
            )
        ),
        t.slots["k"],
        "it",
    )
    t.slots["h.kind"] = t.slots["k"]
    t.let(col="{@color}")
    t.say(
        "Once upon a time, there was a little {col} {k} named {h}. It lived {k.home}. <It had a dent in one side "
        "and a big smile in front.>",
        "{k.home} lived a small {col} {k}. Its name was {h}, and it was very old. <Its paint was peeling.>",
        "Once there was a little {k} called {h}. Every day it had to {k.task}, and it never complained.",
        "{h} was a {col} {k}, the smallest of them all. It lived {k.home}.",
        '"{k.sound}!" That was {h}, a little {col} {k} that lived {k.home}.',
    )
    t.say(
        'The others were [bigger and faster|faster and much bigger|shiny and new|big and loud]. "[What a slow '
        'little thing|Look at that old toy|How slow you are]," they [said|laughed]. "You should be [in a '
        'museum|sold for scrap]." {h} tried to laugh, but [its lamps grew dim|it was not easy]. "I do my best," '
        "said {h}.",
        '"Out of the way, {h}!" shouted {k.big}. "We have [important things to do|work to do|no time for '
        'you]." {h} moved to the side. [It|{h}] wished that it could be [important|big|useful] too, [only '
        "once|just for one day|one time].",
        'When {h} went by, {k.big} laughed. "Is that a {k} or a toy?" they asked. {h} [pretended that it did not '
        "hear|looked straight ahead|said nothing and did its work].",
    )
    t.say(
        'One night, the [telephone|alarm bell] rang [and rang|and rang and rang|without a stop]. {k.need}. "[Who '
        'can help|Can anybody help|Who can get there]?" asked a worried voice.',
        ""
        "Then, "
        "one "
        "[gray|stormy|bitter] "
        "morning, "
        "there "
        "was "
        "an "
        "alarm. "
        "{k.need}. "
        "{^k.big} "
        "looked "
        "at "
        "the "
        "ground. "
        "Nobody "
        "spoke.",
        "But winter came, and with it came trouble. {k.need}."
        if t.slots["k"] == "engine"
        else "But one [day|night|morning|evening] there was [real|great|bad] trouble. {k.need}.",
    )
    t.say(
        '"[I can try|Let me try|I could try]," said a small voice. [They all turned around|It was {h}|All the '
        'others looked at {h}]. "You?" said {k.big}. But {h} was already on its way. "{k.sound}! {k.sound}!" '
        "[It|{h}] was afraid, and it [went on anyway|did not stop|went on all the same]. {h} {k.did}.",
        '"{k.sound}!" It was {h}. "I am small [and light|and careful]," it said. "Let me [go|try]." [Nobody '
        'laughed this time|This time nobody laughed|The others were silent]. "I think I can do it," {h} told '
        'itself, "a little more, a little more." And {h} {k.did}.',
    )
    t.say(
        "How [the people|the children|they all] cheered [and waved|and clapped|for {h}]! {^k.big} blew their "
        'horns, all together. "We [are sorry|were wrong]," they said. "You are the [biggest|bravest|strongest] '
        'of us all, inside." {h} turned as red as a {k} can turn.',
        'When {h} came home, there was a fresh coat of {col} paint waiting, and a flag. "{k.sound}," said {h} '
        "happily. [It|{h}] did not know what [else to say|more to say].",
        "The next day {h} went back to work as if nothing had happened. But when it came along, {k.big} moved to "
        "the side.",
    )


def sad_king(t: TemplateFiller) -> None:
    """A king or queen cannot laugh, and a child finds out why."""
    t.child("h")
    t.row("k", rows("""
            king; gender
            king; he
            queen; she
            princess; she
            prince; he
            """))  # fmt: skip
    t.creature("q", "{k}", t.slots["k.gender"])
    t.row("job", rows("""
            who; tried
            a clown; fell over two huge shoes nine times
            a famous singer; sang until the glasses broke
            a magician; pulled a goose out of a hat
            six dancing bears; danced on a rope
            a man with a trumpet; played with his nose
            """))  # fmt: skip
    t.let(prize="[a bag of gold|a small castle|a white horse|half the kingdom]")
    t.begin(
        "[worked in the castle kitchen|took care of the geese at the castle|swept the stairs of a castle|carried "
        "wood for the castle stove]",
        "High on a hill stood a castle, and in its kitchen worked a {@little} {h.kind} named {h}.",
        home="in a castle on a hill|in a small room under a castle roof|in the kingdom of the seven hills|beside a "
        "castle wall",
    )
    t.say(
        "The {k} of that land [never laughed|had forgotten how to laugh|had not laughed for years]. {q.he} had "
        "[fifty|a hundred] hats and a [golden|silver] bath, but {q.he} [sat at the window|sat on the throne|walked "
        'up and down] all day and [sighed|frowned]. "Whoever makes the {k} laugh will get {prize}," said the '
        "notice on the [gate|wall|big door].",
        "In that land there was a {k} who was always sad. {q.he} did not [smile at the cake|smile on {q.his} "
        "birthday], and {q.he} did not smile at the fireworks. So a prize was offered. It was {prize}.",
    )
    t.say(
        "[People|Clowns and clever folk|All kinds of people] came from [far away|near and far|every town]. There "
        "was {job}, who {job.tried}. The {k} yawned. Others came with [parrots|puppets|jokes] and went home with "
        'long faces. "It is [no use|no good|all so dull]," {q} said.',
        "[They all tried|Many tried]. A wise man read from a [funny|thick] book, and the {k} [fell "
        "asleep|yawned|looked at the clock]. Then came {job}, who {job.tried}. {^q} did not even look.",
    )
    end = t.one_of(("friend", "mud", "work"))
    if end == "friend":
        t.say(
            '{@day}, {h} had to bring up the soup. {h} put down the bowl and looked at the {k}. "What are you '
            'looking at, out there?" {h} asked. [Nobody|No one in the castle] had [ever|yet] asked that. "At the '
            'children," said {q}. "They play, and I may not. They say it is not proper."',
        )
        t.say(
            '"Take off the crown," said {h}. "It is only a hat." They [crept|tiptoed|sneaked] down the '
            "[back|kitchen|dark] stairs. In the yard {h} threw {q.him} a [|{@color} |muddy |soft ]ball. {^q} "
            "missed it, and it landed in the fountain, and the water splashed right in {q.his} face. For a moment "
            "[all was still|nobody breathed|nothing moved]. Then [the {k} began to laugh|there was a giggle, and "
            "then a great laugh|the {k} laughed out loud].",
        )
    elif end == "mud":
        t.say(
            "{@day}, the geese got out. {h} ran after them, across the yard, through the wash on the line, and "
            "straight into the great hall, with a shirt on {h.his} head. {h} slipped[| on the wet stones| on a "
            "spoon], slid along the whole floor, and stopped at the {k}'s feet with a goose in each arm.",
        )
        t.say(
            '"Honk!" said one of the geese and bit off a button from the royal coat. {h} turned white. "I am so '
            'sorry[|, sir]," {h} stammered. But there was a [strange|funny|new] sound, like a [rusty door|rusty '
            'hinge|creaky gate]. It was the {k}. "Ha," said {q}. "Ha, ha, ha!" {^q.he} laughed until the crown '
            "fell off.",
        )
    else:
        t.say(
            "{h} did not know any jokes. But {h.he} felt sorry for the {k}, who was all alone at that long table. "
            'So {h} took a [warm bun|cup of cocoa] and brought it up. "It is a little burned," said {h}. "I '
            'made it. Do you want to see how?"',
        )
        t.say(
            "In the kitchen {h} tied an apron on the {k}. They mixed and [kneaded|rolled|stirred]. {^q} dropped an "
            "egg, stepped on it, and sat down in the flour, so that a white cloud went up. {h} bit {h.his} lip. "
            "{^q} looked at {q.his} white hands, and at the tip of {q.his} white nose. And {q.he} laughed, as "
            "{q.he} had never laughed before.",
        )
    t.say(
        'The prize was {prize}. But {h} [shook {h.his} head|did not want it|said no]. "I would [rather have|like] '
        'a friend," {h.he} said. "So would I," said {q}[| and {@smiled}].',
        "The whole castle came [running|hurrying] to hear it. Soon the [cooks|maids] were laughing, and the "
        "[guards|gardeners], and even the [cat|old parrot]. And since that day, the castle gate has been open to "
        "children on [Sundays|Saturdays and Sundays].",
        '"You shall have your prize," said {q}. {h} got {prize} and [shared it|shared every bit of it] with all '
        "{h.his} friends. But every Friday {h} and the {k} met in the kitchen, to [make a mess|bake|cook up "
        "something] together.",
    )


PLOTS = (
    lonely_monster,
    three_wishes,
    stone_soup,
    dry_well,
    dragon_fire,
    fallen_star,
    little_machine,
    sad_king,
)
